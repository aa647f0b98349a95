from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.records import Commit, LabelRecords
from penstock.stores import labels as labels_module
from penstock.stores.labels import PendingFilter


def records(rows):
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return LabelRecords(
        event_positions=np.array(columns[0], np.int64),
        label_positions=np.array(columns[1], np.int64),
        values=np.array(columns[2], np.float64),
        known_at_us=np.array(columns[3], np.int64),
    )


def as_rows(found):
    return list(
        zip(
            found.event_positions.tolist(),
            found.label_positions.tolist(),
            found.values.tolist(),
            found.known_at_us.tolist(),
            strict=True,
        )
    )


# Two corrections of event 1: known later but logged earlier, and known at the same time but logged later.
ROWS = [(1, 10, 0.0, 100), (1, 11, 1.0, 300), (1, 12, 2.0, 200), (2, 13, 1.0, 150), (1, 14, 3.0, 300)]


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        (None, [(1, 14, 3.0, 300), (2, 13, 1.0, 150)]),
        (300, [(1, 14, 3.0, 300), (2, 13, 1.0, 150)]),
        (299, [(1, 12, 2.0, 200), (2, 13, 1.0, 150)]),
        (199, [(1, 10, 0.0, 100), (2, 13, 1.0, 150)]),
        (149, [(1, 10, 0.0, 100)]),
        (99, []),
    ],
)
def test_the_label_known_last_counts(store, as_of, expected):
    store.commit(Commit(labels=records(ROWS)))
    assert as_rows(store.latest_labels(0, 5, as_of_us=as_of)) == expected


def test_the_range_is_half_open(store):
    store.commit(Commit(labels=records(ROWS)))
    assert as_rows(store.latest_labels(2, 3)) == [(2, 13, 1.0, 150)]
    assert as_rows(store.latest_labels(0, 2)) == [(1, 14, 3.0, 300)]


def test_all_versions_of_some_events(store):
    store.commit(Commit(labels=records(ROWS)))
    assert as_rows(store.labels_of(np.array([1, 1, 7]))) == [row for row in ROWS if row[0] == 1]
    assert len(store.labels_of(np.array([], np.int64))) == 0


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_the_order_of_arrival_does_not_matter(home, monkeypatch, order):
    monkeypatch.setattr(labels_module, "_PAGE_ROWS", 2)  # an event's labels span pages
    rows = [ROWS[i] for i in order]
    with home.open() as store:
        for row in rows:
            store.commit(Commit(labels=records([row])))
        assert as_rows(store.latest_labels(0, 5)) == [(1, 11, 1.0, 300), (2, 13, 1.0, 150)]


@given(st.lists(st.integers(0, 2**64 - 1)), st.lists(st.integers(0, 2**64 - 1)), st.data())
def test_the_filter_knows_every_waiting_hash(first, second, data):
    waiting = PendingFilter(np.array(first, np.uint64))
    waiting.add(second)
    asked = (
        data.draw(st.lists(st.sampled_from(first + second) | st.integers(0, 2**64 - 1)))
        if first + second
        else [1]
    )
    found = waiting.possible(np.array(asked, np.uint64)).tolist()
    assert found == [one for one in asked if one in set(first + second)]
