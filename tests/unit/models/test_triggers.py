"""When a model is due to be trained again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from penstock import Retraining
from penstock.core.time import to_us
from penstock.models.triggers import Seen, State, due

NOW = to_us(datetime(2026, 1, 10, 12, tzinfo=UTC))
HOUR = to_us(timedelta(hours=1))
STATE = State(position=0, started_us=None, since_us=NOW - HOUR)
SEEN = Seen(now_us=NOW, labels=1_000, positives=100)


def kind(rules, state=STATE, seen=SEEN, *, drifted=(), figures=None, binary=True):
    found = due(rules, state, seen, binary=binary, drifted=lambda: drifted, figures=lambda: figures or {})
    return None if found is None else found.kind


def never():
    raise AssertionError("asked for nothing")


@pytest.mark.parametrize(
    ("labels", "positives", "expected"),
    [(499, 400, None), (500, 19, None), (500, 20, "labels"), (0, 0, None)],
)
def test_enough_new_labels_of_which_enough_are_positive(labels, positives, expected):
    assert kind(Retraining(), seen=Seen(NOW, labels, positives)) == expected


def test_of_a_regression_labels_count_whatever_their_value():
    assert kind(Retraining(), seen=Seen(NOW, 500, 0), binary=False) == "labels"


def test_the_cooldown_holds_for_every_trigger_and_not_for_ever_where_the_clock_was_set_back():
    rules = Retraining(schedule="* * * * *", on_drift=True, cooldown=timedelta(hours=1))
    assert kind(rules, replace(STATE, started_us=NOW - HOUR + 1), drifted=("amount",)) is None
    assert kind(rules, replace(STATE, started_us=NOW - HOUR)) == "schedule"
    assert kind(rules, replace(STATE, started_us=NOW + 10 * HOUR)) == "schedule"


def test_a_schedule_is_due_once_for_all_times_that_passed():
    rules = Retraining(new_labels=None, schedule="0 3 * * *", cooldown=timedelta(0))
    days_ago = replace(STATE, since_us=NOW - 100 * HOUR)
    assert kind(rules, days_ago, Seen(NOW, 0, 0)) == "schedule"
    assert kind(rules, replace(days_ago, since_us=NOW)) is None
    assert kind(rules, replace(days_ago, since_us=NOW), replace(SEEN, now_us=NOW + 16 * HOUR)) == "schedule"


def test_drift_and_floor_wait_for_new_positives_and_are_not_looked_for_before():
    rules = Retraining(new_labels=None, on_drift=True, metric_floor={"average_precision": 0.5})
    few = Seen(NOW, 1_000, 19)
    assert due(rules, STATE, few, drifted=never, figures=never) is None
    assert kind(rules, drifted=("amount",)) == "drift"
    assert kind(rules, drifted=("amount",), figures={"average_precision": 0.49}) == "floor"
    assert kind(rules, figures={"average_precision": 0.5}) is None
    assert kind(rules, figures={"average_precision": None}) is None
    assert (
        kind(Retraining(new_labels=None, metric_floor={"log_loss": 0.5}), figures={"log_loss": 0.6})
        == "floor"
    )
    assert (
        kind(Retraining(new_labels=None, metric_floor={"log_loss": 0.5}), figures={"log_loss": 0.4}) is None
    )
    assert due(Retraining(), STATE, SEEN, drifted=never, figures=never).kind == "labels"
