"""Reading a store from the newest, and dead letters that leave with a commit."""

import numpy as np
import pytest

from penstock.core.errors import StoreError
from penstock.core.records import Commit, DeadLetter, DecisionBatch, LogBatch


@pytest.fixture
def store(home):
    with home.open(max_dead_letters=5) as opened:
        yield opened


def commit(store, *endpoints, at_us, rows=3):
    """A commit of `rows` rows, which the endpoints decide on in turn."""
    positions = np.arange(store.next_position, store.next_position + rows)
    decided = [
        DecisionBatch(name, positions[i :: len(endpoints)], payload=name.encode())
        for i, name in enumerate(endpoints)
    ]
    store.commit(
        Commit(log=[LogBatch("payments", positions, ingest_time_us=at_us, payload=b"x")], decisions=decided)
    )


def letter(number):
    return DeadLetter(
        source="payments", received_us=number, reason=f"r{number % 2}", detail="d", payload=b"%d" % number
    )


def test_commits_newest_first_with_their_decisions(store):
    commit(store, "a", at_us=10)
    store.commit(Commit(offsets={"file": "1"}))
    commit(store, at_us=20)
    commit(store, "a", "b", at_us=30)
    heads = [(h.start, h.stop, h.ingest_time_us, sorted(h.decisions.values())) for h in store.heads_before()]
    assert [head for head in heads if head[3]] == [(6, 9, 30, [("a", 2), ("b", 1)]), (0, 3, 10, [("a", 3)])]
    (newest, *_) = store.heads_before()
    found = {
        store.decision_batch(key).endpoint: store.decision_batch(key).positions.tolist()
        for key in newest.decisions
    }
    assert found == {"a": [6, 8], "b": [7]}


def test_of_the_commit_in_which_the_position_lies_only_batches_that_start_before_it(store):
    commit(store, "a", "b", at_us=10)
    (head,) = store.heads_before(1)
    assert list(head.decisions.values()) == [("a", 2)]
    assert list(store.heads_before(0))[:1] == [] or not next(iter(store.heads_before(0))).decisions


def test_many_commits_are_read_in_pages(store):
    for i in range(600):
        commit(store, "a", at_us=i, rows=1)
    starts = [head.start for head in store.heads_before() if head.decisions]
    assert starts == list(range(599, -1, -1))
    assert store.decisions_between(100, 250) == 150


def test_the_position_at_a_time(store):
    assert store.position_at(5) == 0
    for at in (10, 20, 20, 30):
        commit(store, at_us=at)
    assert [store.position_at(at) for at in (9, 10, 15, 20, 29, 30, 99)] == [0, 3, 3, 9, 9, 12, 12]


def test_dead_letters_newest_first_by_source_and_reason(store):
    store.commit(Commit(dead_letters=[letter(i) for i in range(5)]))
    assert [one.letter_id for one in store.newest_dead_letters(2)] == [5, 4]
    assert [one.letter_id for one in store.newest_dead_letters(2, before=4)] == [3, 2]
    assert [one.letter_id for one in store.newest_dead_letters(reason="r1")] == [4, 2]
    assert store.newest_dead_letters(source="other") == []
    assert store.dead_letter_counts() == {("payments", "r0"): 3, ("payments", "r1"): 2}
    assert [one.letter_id for one in store.dead_letters_with([4, 9, 2])] == [2, 4]


def test_letters_leave_with_a_commit_and_make_room(store):
    store.commit(Commit(dead_letters=[letter(i) for i in range(5)]))
    positions = np.arange(2)
    store.commit(
        Commit(
            log=[LogBatch("payments", positions, ingest_time_us=1, payload=b"x")],
            letters_removed=[2, 4, 99],
            dead_letters=[letter(5), letter(6), letter(7)],
        )
    )
    assert [one.letter_id for one in store.dead_letters()] == [3, 5, 6, 7, 8], (
        "the bound counts those that left"
    )
    assert store.counters()["dead_letters_dropped"] == 1
    assert store.dead_letter_count() == 5


def test_letters_stay_where_the_commit_fails(store, monkeypatch):
    store.commit(Commit(dead_letters=[letter(1)]))

    def fails(*_):
        raise StoreError("no")

    monkeypatch.setattr("penstock.stores.dead_letters.insert", fails)
    with pytest.raises(StoreError):
        store.commit(Commit(letters_removed=[1], dead_letters=[letter(2)]))
    monkeypatch.undo()
    assert [one.letter_id for one in store.dead_letters()] == [1]
    store.commit(Commit(letters_removed=[1]))
    assert store.dead_letter_count() == 0
