"""An MLflow server that does not answer, or to which several processes of one machine speak."""

import os
import socket
import time

import pytest

from penstock.core.errors import CorruptionError, StoreError
from tests.unit.models.test_mlflow_hostile import Server, opened, row, version_files

pytest.importorskip("mlflow")

WHO = {"actor": "ada", "reason": "tested"}


class Flaky(Server):
    """Can be away, and counts what it is asked."""

    away, asked, before_answer = False, 0, None

    def search_model_versions(self, *arguments, **options):
        from mlflow.exceptions import MlflowException

        if self.away:
            raise MlflowException("connection refused")
        found = super().search_model_versions(*arguments, **options)
        self.asked += len(found)
        if self.before_answer is not None:
            act, self.before_answer = self.before_answer, None
            act()
        return found


@pytest.fixture
def server():
    server = Flaky(version_files())
    server.last = server.write(row(digest=server.files.digest))
    return server


def add(server, sequence):
    server.last = server.write(
        row(sequence=sequence, digest=server.files.digest, action="archive", stage="Archived"), server.last
    )


def test_versions_that_were_seen_can_be_had_while_it_is_away(tmp_path, server):
    opened(tmp_path, server).get("fraud", "champion")
    server.away = True
    registry = opened(tmp_path, server)
    assert registry.away == ""
    (found,) = registry.versions("fraud")
    assert (found.label, found.stage, found.aliases) == ("fraud:1", "Production", ("champion",))
    assert "connection refused" in registry.away
    assert registry.get("fraud", "champion").files().contents == server.files.contents
    for ask in (
        registry.history,
        registry.head,
        registry.verify,
        lambda: registry.archive("fraud", 1, **WHO),
        lambda: registry.versions("unknown"),
    ):
        with pytest.raises(StoreError, match="connection refused"):
            ask()
    server.away = False
    registry.versions("fraud")
    assert registry.away == ""


def test_what_was_seen_is_not_gone_by_where_it_was_changed(tmp_path, server):
    registry = opened(tmp_path, server)
    registry.versions("fraud")
    (kept,) = (tmp_path / "cache").glob("*.rows.json")
    kept.write_bytes(kept.read_bytes().replace(b"Production", b"Archived"))
    server.away = True
    with pytest.raises(StoreError, match="connection refused"):
        registry.versions("fraud")


def test_a_server_whose_rows_were_changed_is_not_away(tmp_path, server):
    registry = opened(tmp_path, server)
    registry.versions("fraud")
    server.texts[0] = server.texts[0].replace("ada", "eve")
    with pytest.raises(CorruptionError, match="does not follow"):
        registry.versions("fraud")


def test_a_row_that_another_process_sees_meanwhile_is_no_corruption(tmp_path, server):
    slow, other = opened(tmp_path, server), opened(tmp_path, server)

    def meanwhile():
        add(server, 2)
        assert len(other.history()) == 2

    server.before_answer = meanwhile
    assert len(slow.history()) == 1
    assert other._history_seen.head() == server.last  # the older one is not written over it
    del server.texts[-1]
    with pytest.raises(CorruptionError, match="has seen a later one"):
        slow.history()


def test_the_head_asks_for_the_newest_row_only(tmp_path, server):
    for sequence in range(2, 30):
        add(server, sequence)
    registry = opened(tmp_path, server)
    assert registry.head() == server.last
    server.asked = 0
    assert registry.head() == server.last
    assert server.asked == 1
    add(server, 30)
    assert registry.head() == server.last


def test_a_row_that_came_too_late_is_not_the_head(tmp_path, server):
    registry = opened(tmp_path, server)
    head = registry.head()
    server.write(row(sequence=2, digest=server.files.digest))
    assert registry.head() == head
    assert registry.head() == head


def test_a_server_that_never_answers_is_not_waited_for(tmp_path, monkeypatch):
    from penstock.models import mlflow_registry

    names = [name for name in mlflow_registry._SETTINGS if "HTTP" in name]
    assert {mlflow_registry._SETTINGS[name] for name in names} == {"5", "1"}
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setitem(mlflow_registry._SETTINGS, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        registry = mlflow_registry.MlflowRegistry(uri, cache=tmp_path, clock=None)
        began = time.monotonic()
        with pytest.raises(StoreError, match=uri):
            registry.head()
        assert time.monotonic() - began < 30
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
