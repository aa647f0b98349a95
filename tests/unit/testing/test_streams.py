"""Generated streams hold what they promise; a stream without hazards would prove nothing."""

from __future__ import annotations

import math
from datetime import timedelta
from random import Random

import pytest

from penstock import LabelSource, PushConfig, StreamSource
from penstock.testing import streams
from penstock.testing.clock import ManualClock
from penstock.types import Bool, Field, Float64, String, Timestamp

WINDOWS = (60_000_000, 3_600_000_000)
LATENESS = 10_000_000
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String),
        Field("card", String, optional=True),
        Field("time", Timestamp),
        Field("x", Float64),
    ],
    event_id_field="id",
    allowed_lateness=timedelta(seconds=10),
)
chargebacks = LabelSource("chargebacks", of=payments, label=Field("fraud", Bool), known_at="known_at")


@pytest.fixture(scope="module")
def rows():
    return streams.rows(Random(1), 2000, windows_us=WINDOWS, lateness_us=LATENESS)


@pytest.fixture(scope="module")
def steps():
    random = Random(2)
    events = streams.events(random, 1000, source=payments, windows_us=WINDOWS)
    return streams.labelled(random, events, labels=chargebacks, delay_us=5_000_000)


def test_a_seed_repeats_its_stream():
    made = [streams.events(Random(3), 50, source=payments, windows_us=WINDOWS) for _ in range(2)]
    assert repr(made[0]) == repr(made[1])


def test_times_tie_come_late_and_too_late_and_touch_every_edge(rows):
    behind, gaps, newest = [], set(), rows[0].time_us
    for i, row in enumerate(rows):
        behind.append(newest - row.time_us)
        newest = max(newest, row.time_us)
        gaps.update(row.time_us - earlier.time_us for earlier in rows[max(0, i - 8) : i])
    assert behind.count(0) > 20
    assert sum(0 < b <= LATENESS for b in behind) > 20
    assert {LATENESS - 1, LATENESS, LATENESS + 1} <= set(behind)
    assert sum(b > LATENESS + 1 for b in behind) > 20
    assert {window + near for window in WINDOWS for near in (-1, 0, 1)} <= gaps


def test_values_are_null_not_finite_and_extreme(rows):
    found = {repr(row.value) for row in rows}
    assert {"None", "nan", "inf", "-inf"} <= found
    assert {repr(x) for x in streams.EXTREME} <= found


def test_events_are_finite_with_nulls_only_where_optional(steps):
    records = [step.record for step in steps if step.source == "payments"]
    assert all(math.isfinite(record["x"]) for record in records)
    assert {record["card"] for record in records} == {None, *streams.TEXTS[:3]}
    assert None not in {record["id"] for record in records}


def test_duplicates_are_marked_and_equal_their_first(steps):
    first = {}
    for step in steps:
        if step.source == "payments":
            assert step.is_duplicate == (step.record["id"] in first)
            assert step.record == first.setdefault(step.record["id"], step.record)
    assert sum(step.is_duplicate for step in steps) > 50
    assert not any(step.is_duplicate for step in streams.accepted(steps))


def test_labels_come_early_late_twice_corrected_and_for_strangers(steps):
    event_at = {s.record["id"]: i for i, s in reversed(list(enumerate(steps))) if s.source == "payments"}
    labels = [(i, step.record) for i, step in enumerate(steps) if step.source == "chargebacks"]
    known = [(i, record) for i, record in labels if record["id"] in event_at]
    assert len(known) < len(labels)
    assert any(i < event_at[record["id"]] for i, record in known)
    assert any(i > event_at[record["id"]] for i, record in known)
    truths = {}
    for _, record in known:
        truths.setdefault(record["id"], []).append(record["fraud"])
    assert any(len(t) > 1 and len(set(t)) == 1 for t in truths.values())
    assert any(len(set(t)) == 2 for t in truths.values())
    assert set(event_at) - set(truths)


def test_interleaving_keeps_each_stream_in_order():
    one, two = ([streams.Step(name, {"i": i}) for i in range(20)] for name in ("one", "two"))
    merged = streams.interleaved(Random(4), one, two)
    assert [s for s in merged if s.source == "one"] == one
    assert [s for s in merged if s.source == "two"] == two
    assert merged != [*one, *two]


def test_the_clock_moves_only_when_told():
    clock = ManualClock(5)
    assert [clock.now_us(), clock.now_us()] == [5, 5]
    clock.advance(timedelta(milliseconds=2))
    assert clock.now_us() == 2005
    clock.advance(timedelta(microseconds=-5))
    assert clock.now_us() == 2000
