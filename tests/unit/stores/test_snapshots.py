from __future__ import annotations

import pytest

from penstock.core.errors import StoreError
from penstock.stores.snapshots import Snapshot, SnapshotStore

STORE = "5a" * 16


@pytest.fixture
def file_snapshots(tmp_path):
    return SnapshotStore(tmp_path / "snapshots", store_id=STORE)


@pytest.fixture
def snapshots(home):
    with home.open() as store:
        yield home.snapshots(store.store_id)


def taken(position, *, fingerprint="plan-1", schema_hash="schema-1"):
    return Snapshot(
        position=position,
        fingerprint=fingerprint,
        schema_hash=schema_hash,
        state=f"state {position}".encode() * 50,
    )


def search(snapshots, *, fingerprint="plan-1", schema_hash="schema-1", next_position=1000):
    return snapshots.newest_good(
        fingerprint=fingerprint, schema_hash=schema_hash, next_position=next_position
    )


def files(tmp_path):
    return sorted((tmp_path / "snapshots").iterdir())


def test_none_yet(snapshots):
    assert search(snapshots).snapshot is None
    snapshots.clear()


def test_the_newest_is_found_and_three_are_kept(file_snapshots, tmp_path):
    for position in (5, 10, 100, 20):
        file_snapshots.save(taken(position))
    assert len(files(tmp_path)) == 3
    assert search(file_snapshots).snapshot == taken(100)
    assert search(file_snapshots).skipped == ()


def test_every_harm_is_noticed_and_the_one_before_is_used(file_snapshots, tmp_path):
    file_snapshots.save(taken(5))
    file_snapshots.save(taken(10))
    newest = files(tmp_path)[-1]
    whole = newest.read_bytes()
    harmed = [whole[:size] for size in range(0, len(whole), 7)] + [whole + b"x"]
    for i in range(len(whole)):
        flipped = bytearray(whole)
        flipped[i] ^= 1
        harmed.append(bytes(flipped))
    for data in harmed:
        newest.write_bytes(data)
        found = search(file_snapshots)
        assert found.snapshot == taken(5)
        assert [(one.path, one.reason[:7]) for one in found.skipped] == [(newest, "damaged")]


def test_one_ahead_of_the_log_is_removed(file_snapshots, tmp_path):
    file_snapshots.save(taken(5))
    file_snapshots.save(taken(10))
    found = search(file_snapshots, next_position=9)
    assert found.snapshot == taken(5)
    assert "ahead of the log" in found.skipped[0].reason
    assert len(files(tmp_path)) == 1
    assert search(file_snapshots, next_position=5).snapshot == taken(5)


def test_another_stores_is_skipped(file_snapshots, tmp_path):
    SnapshotStore(tmp_path / "snapshots", store_id="77" * 16).save(taken(10))
    file_snapshots.save(taken(5))
    found = search(file_snapshots)
    assert found.snapshot == taken(5)
    assert found.skipped[0].reason == "foreign: taken from another store"


@pytest.mark.parametrize("change", [{"fingerprint": "plan-2"}, {"schema_hash": "schema-2"}])
def test_another_plans_is_given_only_where_there_is_none_of_this(snapshots, change):
    snapshots.save(taken(5))
    assert search(snapshots, **change).snapshot == taken(5)
    snapshots.save(taken(3, **change))
    assert search(snapshots, **change).snapshot == taken(3, **change)
    assert search(snapshots).snapshot == taken(5)


def test_the_plan_in_use_pushes_out_the_others(snapshots):
    for position in (50, 60, 70):
        snapshots.save(taken(position, fingerprint="old"))
    for position in (1, 2, 3):
        snapshots.save(taken(position))
        assert search(snapshots).snapshot == taken(position)
    assert search(snapshots, fingerprint="plan-1").snapshot == taken(3)
    assert search(snapshots, fingerprint="old").snapshot == taken(3)


def test_clear_removes_all(file_snapshots, tmp_path):
    file_snapshots.save(taken(5))
    (tmp_path / "snapshots" / "left.tmp").write_bytes(b"half")
    file_snapshots.clear()
    assert files(tmp_path) == []


def test_a_crash_while_writing_leaves_the_old(file_snapshots, monkeypatch):
    file_snapshots.save(taken(5))

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("penstock.stores.snapshots.os.fsync", no_space)
    with pytest.raises(StoreError, match="No space left"):
        file_snapshots.save(taken(10))
    assert search(file_snapshots).snapshot == taken(5)


def test_the_newest_three_are_kept_wherever_they_lie(snapshots):
    for position in (5, 10, 100, 20):
        snapshots.save(taken(position))
    assert search(snapshots).snapshot == taken(100)
    assert snapshots.positions() == (100, 20, 10)
    assert search(snapshots, next_position=99).snapshot == taken(20)
    assert search(snapshots, next_position=19).snapshot == taken(10)
    assert search(snapshots, next_position=9).snapshot is None
    snapshots.clear()
    assert search(snapshots).snapshot is None


def test_in_postgresql_large_ones_come_in_parts_and_every_harm_is_noticed(postgres_home, monkeypatch):
    home = postgres_home
    home.open().close()
    monkeypatch.setattr("penstock.stores.postgres.snapshots._PART_BYTES", 100)
    snapshots = home.snapshots("")
    snapshots.save(taken(5))
    for harm in (
        "UPDATE snapshot_parts SET data = set_byte(data, 3, 0) WHERE part = 2 AND snapshot = ?",
        "DELETE FROM snapshot_parts WHERE part = 1 AND snapshot = ?",
        "UPDATE snapshots SET position = 9 WHERE id = ?",
        "UPDATE snapshots SET fingerprint = 'plan-2' WHERE id = ?",
    ):
        snapshots.save(taken(10))
        assert search(snapshots).snapshot == taken(10)
        ((newest,),) = home.outside("SELECT max(id) FROM snapshots")
        home.outside(harm, (newest,))
        found = search(snapshots)
        assert found.snapshot == taken(5)
        assert [one.reason[:7] for one in found.skipped] == ["damaged"]
        home.outside("DELETE FROM snapshots WHERE id = ?", (newest,))
