"""What holds of a project's store, wherever it lives."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from penstock.core.errors import CorruptionError, InputError, StoreError
from penstock.core.records import (
    Commit,
    DeadLetter,
    DecisionBatch,
    Erasure,
    EventIds,
    LabelRecords,
    PendingLabel,
)
from penstock.stores.sqlite import ProjectStore


def reopened(home, store):
    store.close()
    return home.open()


def test_a_new_store_is_empty(store):
    assert store.next_position == 0
    assert store.counters() == {}
    assert store.offsets() == {}
    assert list(store.read_log()) == []
    assert list(store.read_decisions()) == []
    assert len(store.latest_labels()) == 0


def test_a_commit_is_read_back_after_reopening(home, store, simple_commit):
    store.commit(simple_commit(0, 3, offsets={"file.csv": "line 4"}))
    store.commit(simple_commit(3, 1, offsets={"file.csv": "line 5", "other": "x"}))
    with reopened(home, store) as again:
        assert again.next_position == 4
        assert again.counters() == {"received": 4, "scored": 4}
        assert again.offsets() == {"file.csv": "line 5", "other": "x"}
        log, decisions = list(again.read_log()), list(again.read_decisions())
        assert [b.positions.tolist() for b in log] == [[0, 1, 2], [3]]
        assert [(b.source, b.ingest_time_us, b.payload) for b in log] == [
            ("transactions", 7, b"transactions:[0, 1, 2]"),
            ("transactions", 7, b"transactions:[3]"),
        ]
        assert [(b.endpoint, b.positions.tolist(), b.payload) for b in decisions] == [
            ("checkout", [0, 1, 2], b"decided 0"),
            ("checkout", [3], b"decided 3"),
        ]


def test_commits_without_batches_keep_their_totals_and_are_no_rows(home, store, simple_commit):
    for commit in (Commit(counters={"duplicate": 1}), simple_commit(0, 2), Commit(counters={"duplicate": 2})):
        store.commit(commit)
    store.commit(Commit(counters={"duplicate": 4}))
    with reopened(home, store) as again:
        assert again.next_position == 2
        assert again.counters() == {"received": 2, "scored": 2, "duplicate": 7}
        assert again.row_counts() == {"transactions": 2}
        assert [b.positions.tolist() for b in again.read_log()] == [[0, 1]]
        assert [b.positions.tolist() for b in again.read_decisions()] == [[0, 1]]
        assert list(again.log_batches_at(np.array([2]))) == []
        again.commit(simple_commit(2, 1))
        assert [b.positions.tolist() for b in again.log_batches_at(np.array([2]))] == [[2]]


def test_a_store_whose_newest_commit_is_cut_off_is_refused(home, store, simple_commit):
    store.commit(simple_commit(0, 2))
    store.close()
    home.outside("DELETE FROM batches WHERE id = (SELECT max(id) FROM batches)")
    with pytest.raises(CorruptionError, match="its last row is missing"):
        home.open()


def test_identity_stays_and_differs_between_stores(home, store, tmp_path):
    identity = store.store_id, store.hash_seed
    with reopened(home, store) as again, ProjectStore.open(tmp_path / "b.db", durability="power") as other:
        assert (again.store_id, again.hash_seed) == identity
        assert other.store_id != identity[0]
        assert 0 <= other.hash_seed < 2**63


@pytest.mark.parametrize(
    "positions", [[[1]], [[0, 2]], [[1, 0]], [[0, 0]], [[0, 2], [1, 2]], [[0, 3], [1]], [[0, 1, 1, 3]]]
)
def test_positions_must_continue_the_log(store, batch, positions):
    with pytest.raises(InputError, match="the log continues at 0"):
        store.commit(Commit(log=[batch(str(i), p) for i, p in enumerate(positions)]))
    assert store.next_position == 0
    assert list(store.read_log()) == []


@pytest.mark.parametrize("positions", [[1, 3], [3, 4], [2, 4], [0, 1]])
def test_positions_must_continue_a_log_that_has_begun(store, batch, simple_commit, positions):
    store.commit(simple_commit(0, 2))
    with pytest.raises(InputError, match="the log continues at 2"):
        store.commit(Commit(log=[batch("transactions", positions)]))
    assert store.next_position == 2


def test_decisions_and_ids_must_be_of_the_commit(store, batch, simple_commit):
    store.commit(simple_commit(0, 2))
    stray = DecisionBatch("checkout", np.array([1, 2]), payload=b"")
    with pytest.raises(InputError, match="this commit holds 2 to 3"):
        store.commit(Commit(log=[batch("transactions", [2, 3])], decisions=[stray]))
    ids = EventIds(np.array([5], np.uint64), np.array([4]))
    with pytest.raises(InputError, match="one hash an event of this commit"):
        store.commit(Commit(log=[batch("transactions", [2, 3])], ids=ids))
    assert store.next_position == 2


def test_empty_batches_are_refused(store, batch):
    nothing = np.empty(0, np.int64)
    with pytest.raises(InputError, match="batch of 'b': it has no rows"):
        store.commit(Commit(log=[batch("a", [0]), batch("b", nothing)]))
    with pytest.raises(InputError, match="batch of 'checkout': it has no rows"):
        store.commit(Commit(decisions=[DecisionBatch("checkout", nothing, payload=b"")]))


def test_sources_interleave_in_one_commit(store, batch):
    store.commit(Commit(log=[batch("a", [0, 2, 5]), batch("b", [1]), batch("c", [3, 4])]))
    store.commit(Commit(log=[batch("b", [6, 7])]))
    read = [(b.source, b.positions.tolist()) for b in store.read_log()]
    assert read == [("a", [0, 2, 5]), ("b", [1]), ("c", [3, 4]), ("b", [6, 7])]
    assert [b.source for b in store.read_log(sources=["b", "c"])] == ["b", "c", "b"]
    assert [b.source for b in store.read_log(sources=["unheard of"])] == []


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [(0, 8, "abcb"), (2, 3, "a"), (3, 4, "ac"), (5, 6, "a"), (6, None, "b"), (5, 7, "ab"), (8, None, "")],
)
def test_read_log_gives_every_batch_with_rows_in_the_range(store, batch, start, stop, expected):
    store.commit(Commit(log=[batch("a", [0, 2, 5]), batch("b", [1]), batch("c", [3, 4])]))
    store.commit(Commit(log=[batch("b", [6, 7])]))
    assert {b.source for b in store.read_log(start, stop)} == set(expected)
    for found in store.read_log(start, stop):
        assert any(start <= p < (8 if stop is None else stop) or found.source == "a" for p in found.positions)


def test_batches_at_positions_come_once_in_log_order(store, batch):
    store.commit(Commit(log=[batch("a", [0, 2, 5]), batch("b", [1]), batch("c", [3, 4])]))
    store.commit(
        Commit(
            log=[batch("b", range(6, 9))],
            decisions=[
                DecisionBatch("x", np.array([6, 8]), payload=b"x"),
                DecisionBatch("y", np.array([7, 8]), payload=b"y"),
            ],
        )
    )
    at = np.array([8, 1, 5, 2, 7, 99])
    assert [b.positions.tolist() for b in store.log_batches_at(at)] == [[0, 2, 5], [1], [6, 7, 8]]
    assert [b.endpoint for b in store.decision_batches_at(np.array([8, 3]))] == ["x", "y"]
    assert [b.endpoint for b in store.decision_batches_at(np.array([7]))] == ["y"]
    assert list(store.decision_batches_at(np.array([2]))) == []


def test_reading_is_bounded_and_complete_over_uneven_payloads(store, batch):
    sizes = [10] * 1500 + [3 << 20, 10, 3 << 20, 5 << 20] + [10] * 10
    for i, size in enumerate(sizes):
        store.commit(Commit(log=[batch("a", [i], bytes(size))]))
        store.tidy()
    read = list(store.read_log())
    assert [len(b.payload) for b in read] == sizes
    assert [int(b.positions[0]) for b in read] == list(range(len(sizes)))


def test_event_ids_are_read_without_payloads(store, batch):
    every = EventIds(np.array([11, 12], np.uint64), np.array([0, 1]))
    some = EventIds(np.array([2**64 - 1], np.uint64), np.array([4]))
    store.commit(Commit(log=[batch("a", [0, 1])], ids=every))
    store.commit(Commit(log=[batch("a", [2])]))
    store.commit(Commit(log=[batch("a", [3, 5]), batch("b", [4])], ids=some))
    read = [(ids.hashes.tolist(), ids.positions.tolist()) for ids in store.event_ids()]
    assert read == [([11, 12], [0, 1]), ([2**64 - 1], [4])]
    assert [ids.hashes.tolist() for ids in store.event_ids(1)] == [[12], [2**64 - 1]]


@pytest.mark.parametrize("column", ["payload", "positions", "last_position", "ingest_time_us"])
def test_a_changed_byte_of_the_log_is_found_and_named(home, store, batch, column):
    store.commit(Commit(log=[batch("a", [0, 2]), batch("b", [1])]))
    changed = {"payload": b"!", "positions": np.array([0, 1]).tobytes()}.get(column, 3)
    home.outside(f"UPDATE batches SET {column} = ? WHERE positions IS NOT NULL", (changed,))
    with pytest.raises(CorruptionError, match=r"log batch at positions 0 to [23]: the checksum"):
        list(store.read_log())
    with pytest.raises(CorruptionError):
        list(store.log_batches_at(np.array([0])))


def test_changed_event_ids_are_found(home, store, simple_commit):
    store.commit(simple_commit(0, 2))
    home.outside("UPDATE batches SET id_hashes = ? WHERE id_hashes IS NOT NULL", (bytes(16),))
    with pytest.raises(CorruptionError, match="event ids of the commit at position 0"):
        list(store.event_ids())


def test_pending_labels_are_found_by_hash_and_resolved_in_the_commit(home, store, simple_commit):
    waiting = [
        PendingLabel(
            source="transactions",
            event_id=f"e{i}",
            event_hash=2**64 - 1 - i,
            label_position=100 + i,
            value=1.0,
            known_at_us=5,
        )
        for i in range(3)
    ]
    hashes = np.array([7, 2**64 - 2, 2**64 - 1], np.uint64)
    assert store.pending_labels_for(hashes) == []
    store.commit(simple_commit(0, 1, pending_added=waiting))
    assert store.pending_labels_for(hashes) == waiting[:2]
    assert store.pending_labels(2) == waiting[:2]
    assert store.pending_labels(after=101) == waiting[2:]
    with reopened(home, store) as again:
        assert again.pending_labels_for(hashes) == waiting[:2]
        again.commit(simple_commit(1, 1, pending_resolved=[101]))
        assert again.pending_labels_for(hashes) == waiting[:1]


def test_dead_letters_keep_their_bytes_and_are_bounded(home):
    letters = [
        DeadLetter(source="s", received_us=i, reason="bad_json", detail="line 1", payload=bytes([0, 255, i]))
        for i in range(5)
    ]
    with home.open(max_dead_letters=3) as store:
        store.commit(Commit(dead_letters=letters[:2], counters={"rejected": 2}))
        assert [(one.payload, one.letter_id) for one in store.dead_letters()] == [
            (b"\0\xff\0", 1),
            (b"\0\xff\1", 2),
        ]
        store.commit(Commit(dead_letters=letters[2:], counters={"rejected": 3}))
        assert [one.received_us for one in store.dead_letters()] == [2, 3, 4]
        assert store.counters() == {"rejected": 5, "dead_letters_dropped": 2}
        assert [one.received_us for one in store.dead_letters(1, after=3)] == [3]
        assert store.delete_dead_letters([3, 99]) == 1
        store.commit(Commit(dead_letters=letters[:1]))
        assert [one.received_us for one in store.dead_letters()] == [3, 4, 0]
        assert store.dead_letter_count() == 3


def test_a_reader_works_beside_the_writer_and_after_it(home, store, simple_commit):
    store.commit(simple_commit(0, 2))
    with home.reader() as reader:
        assert reader.next_position == 2
        store.commit(simple_commit(2, 2))
        assert reader.next_position == 4
        assert reader.counters()["received"] == 4
        assert len(list(reader.read_log())) == 2
        with pytest.raises(StoreError, match=r"read-?only"):
            reader._fetch("DELETE FROM batches", ())
    store.close()
    with home.reader() as reader:
        assert reader.next_position == 4


def test_commit_from_another_thread_while_this_one_reads(store, simple_commit):
    def write():
        for i in range(200):
            store.commit(simple_commit(i, 1))

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while writer.is_alive():
        count = sum(len(b.positions) for b in store.read_log())
        assert count >= seen
        seen = count
    writer.join()
    assert sum(len(b.positions) for b in store.read_log()) == store.next_position == 200


def test_erasing_only_rewrites_whole_batches_and_all_or_nothing(store, batch):
    store.commit(Commit(log=[batch("a", [0, 2], b"old"), batch("b", [1], b"old")]))
    erasure = Erasure(entity="card", key_hash=b"k", position=3, erased_us=1)
    with pytest.raises(StoreError, match="no stored batch has exactly these positions"):
        store.erase([erasure], log=[batch("b", [1], b"new"), batch("a", [0, 1, 2], b"new")])
    assert [b.payload for b in store.read_log()] == [b"old", b"old"]
    assert store.erasures() == []


def test_a_failing_commit_leaves_nothing(home, store, simple_commit):
    store.commit(simple_commit(0, 2))
    labels = LabelRecords(
        event_positions=np.array([0, 0]),
        label_positions=np.array([9, 9]),  # twice the same label: the last statement fails
        values=np.array([1.0, 1.0]),
        known_at_us=np.array([1, 1]),
    )
    with pytest.raises(StoreError, match="committing at position 2 failed") as raised:
        store.commit(simple_commit(2, 2, labels=labels, offsets={"file.csv": "line 3"}))
    assert raised.value.__cause__ is not None
    assert store.next_position == 2
    with reopened(home, store) as again:
        assert (again.next_position, again.counters(), again.offsets()) == (
            2,
            {"received": 2, "scored": 2},
            {},
        )
        assert len(list(again.read_log())) == len(list(again.read_decisions())) == 1
        assert len(again.labels_of(np.array([0]))) == 0
        again.commit(simple_commit(2, 2))
