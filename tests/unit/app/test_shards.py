"""Opening a shard while another process has it, or its database is away."""

import itertools
from types import SimpleNamespace

import pytest

pytest.importorskip("confluent_kafka")
from penstock.app import shards
from penstock.app.worker_stages import WorkerStage
from penstock.core.errors import AwayError, BusyError, StoreError


@pytest.fixture
def opening(monkeypatch, tmp_path):
    """Opens a shard whose store answers as told, one time after another; what was told of problems meanwhile."""

    def run(*answers, wanted=lambda: True, patience_s=60.0):
        left, problems, seen = iter(answers), {}, []

        def open_runtime(*_, **__):
            seen.append(dict(problems))
            answer = next(left)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(shards.Runtime, "open", open_runtime)
        monkeypatch.setattr(shards, "AWAY_S", 0.001)
        monkeypatch.setattr(shards, "AGAIN_S", 0.001)
        try:
            shards.Shard.open(
                tmp_path,
                3,
                in_force=SimpleNamespace(now=lambda _: (None, 0)),
                stage=WorkerStage("", None, "", None),
                wanted=wanted,
                take_over=True,
                problems=problems,
                patience_s=patience_s,
                arrived=lambda: None,
                sending=None,
            )
        except AttributeError:  # it went on, with what is no runtime
            return seen, problems, "opened"
        except StoreError as error:
            return seen, problems, str(error)

    return run


def test_a_database_that_is_away_is_waited_for_and_told(opening):
    seen, problems, end = opening(AwayError("gone"), BusyError("theirs"), AwayError("still gone"), None)
    assert end == "opened"
    assert [one.get("shard 3, store") for one in seen] == [None, "gone", "gone", "still gone"]
    assert problems == {}


def test_not_for_ever(opening):
    _, problems, end = opening(*[AwayError("gone")] * 1000, patience_s=0.05)
    assert end == "gone"
    assert problems == {}


@pytest.mark.parametrize("error", [AwayError("gone"), BusyError("theirs")])
def test_nor_when_it_is_not_wanted_any_more(opening, error):
    wanted = itertools.chain([True], itertools.repeat(False))
    seen, problems, end = opening(error, error, None, wanted=lambda: next(wanted))
    assert (len(seen), end, problems) == (2, str(error), {})
