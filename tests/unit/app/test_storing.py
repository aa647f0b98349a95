"""A project that keeps its log in PostgreSQL, with nothing but its settings changed."""

from __future__ import annotations

import json
import unicodedata

import pytest
from typer.testing import CliRunner

from penstock.app.forgetting import forget
from penstock.app.runtime import Runtime, open_reader
from penstock.app.storing import has_run, migrate
from penstock.cli.main import app
from penstock.core.errors import SettingsError, StoreError
from penstock.testing.clock import ManualClock
from tests.unit.app.test_forgetting import KEY, START, fill, last_features, project

TABLES = ("batches", "decisions", "labels", "pending_labels", "dead_letters", "offsets", "snapshot_parts")


@pytest.fixture
def folder(tmp_path, postgres_home):
    return settled(project(tmp_path / "p"), postgres_home)


def settled(folder, home, more=""):
    with (folder / "penstock.toml").open("a") as file:
        file.write(f'\n[store]\nurl = "{home.target.url}"\nnamespace = "{home.target.schema}"\n{more}')
    return folder


def penstock(folder, *arguments, code=0):
    done = CliRunner().invoke(app, [*arguments, "--project", str(folder)])
    assert done.exit_code == code, done.output
    return done.stdout


def hits(home):
    """Tables with the key, as text or within bytes."""
    forms = [unicodedata.normalize(form, KEY) for form in ("NFC", "NFD")]
    wanted = [w for f in forms for w in (f, f.encode().hex(), json.dumps(f)[1:-1].encode().hex())]
    found = {table: str(home.outside(f"SELECT one::text FROM {table} one")) for table in TABLES}
    return {table for table, text in found.items() if any(w in text for w in wanted)}


def test_it_runs_is_looked_at_audited_and_replayed(folder, postgres_home):
    assert not has_run(folder)
    with pytest.raises(StoreError, match="has never run"):
        open_reader(folder)
    assert json.loads(penstock(folder, "status", "--json"))["ran"] is False
    fill(folder, key=None)
    assert has_run(folder)
    assert not (folder / ".penstock" / "penstock.db").exists()
    found = json.loads(penstock(folder, "status", "--json"))
    with open_reader(folder) as store:
        length = store.next_position
        assert (found["ran"], found["log_length"]) == (True, length)
        assert store.size_bytes() > 0
    penstock(folder, "audit")
    penstock(folder, "replay", "--rebuild")
    assert "already" in penstock(folder, "migrate")
    with Runtime.open(folder, clock=ManualClock(START)) as runtime:
        assert runtime.skipped_snapshots == ()
        assert runtime.engine.position == length
        assert runtime.contract_changes == ()
    ((rows,),) = postgres_home.outside("SELECT count(*) FROM decisions")
    with open_reader(folder) as store:
        assert rows == sum(store.decision_counts().values())


def test_a_forgotten_key_is_in_no_table(folder, postgres_home, tmp_path):
    fill(folder, key=KEY)
    assert {"batches", "dead_letters", "snapshot_parts"} <= hits(postgres_home)
    done = forget(folder, "card", [KEY], clock=ManualClock(START))
    assert (done.events, done.labels, done.pending_labels, done.dead_letters) == (5, 4, 0, 3)
    assert hits(postgres_home) == set()
    assert last_features(folder) == last_features(fill(project(tmp_path / "without"), key=None))


def test_tables_are_made_by_hand_where_it_is_asked_for(tmp_path, postgres_home):
    folder = settled(project(tmp_path / "p"), postgres_home, "migrate = false\n")
    with pytest.raises(StoreError, match="has never run"):
        Runtime.open(folder)
    assert "CREATE TABLE batches(" in penstock(folder, "migrate", "--sql")
    assert "tables made" in penstock(folder, "migrate")
    with Runtime.open(folder) as runtime:
        assert runtime.store.next_position == 0
        with pytest.raises(StoreError, match="is writing to it"):
            migrate(folder)


def test_a_sqlite_file_has_nothing_to_migrate(tmp_path):
    with pytest.raises(SettingsError, match=r"Set \[store\] url"):
        migrate(project(tmp_path / "p"))
