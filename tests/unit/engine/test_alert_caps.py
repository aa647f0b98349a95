"""The budget of a day, against a plain reading of what it means, event by event."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import DefinitionError
from penstock.definitions.alert_caps import AlertCap
from penstock.definitions.policies import CostMatrix, Policy, Rule
from penstock.engine.alert_caps import DAYS, AlertDays, capped
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.routing import DecidedBy
from penstock.plan.nodes import CapNode
from penstock.plan.policies import policy_digest

ALERTING = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60)


def plainly(events, per_day):
    """Which events are over: counts by day, of the seven days to which the newest alerts belong."""
    counts, over = {}, []
    for alerting, day in events:
        if not alerting:
            over.append(False)
            continue
        before = counts.pop(day, 0)
        over.append(before >= per_day)
        counts[day] = before + (not over[-1])  # to the end: it is the newest now
        if len(counts) > DAYS:
            del counts[next(iter(counts))]
    return over


@given(ALERTING, st.integers(1, 4), st.lists(st.integers(1, 9), max_size=8))
def test_as_read_plainly_in_batches_of_any_size_and_from_its_counters(events, per_day, sizes):
    totals, over, at = {}, [], 0
    for size in [*sizes, len(events)]:
        days = AlertDays("e", totals)  # as after a restart
        before = days.totals
        part = events[at : at + size]
        over += days.over(
            np.array([a for a, _ in part], np.bool_),
            np.array([d for _, d in part], np.int64),
            per_day=per_day,
        ).tolist()
        for name, added in days.since(before).items():
            totals[name] = totals.get(name, 0) + added
        at += size
    assert over == plainly(events, per_day)


def stands(days, per_day, count, day):
    """How many of so many alerts of a day stand."""
    return int((~days.over(np.ones(count, np.bool_), np.full(count, day), per_day=per_day)).sum())


def test_an_alert_of_a_wrong_time_uses_up_its_own_day_alone():
    """Years ahead, on the same weekday; or long ago: each day keeps its budget, and the wrong ones have one of their own."""
    monday, far = 20_000, 20_000 + 7 * 150
    days, stood = AlertDays("e"), 0
    for week in range(10):
        stood += stands(days, 200, 300, monday + 7 * week)
        assert stands(days, 200, 1, far) == 1
        assert stands(days, 200, 1, 3) == 1
        assert stands(days, 200, 1, monday + 7 * week) == 0, (
            "no time of another gives the day a second budget"
        )
    assert stood == 10 * 200
    assert days.alerts(far) == 10
    assert days.newest == (monday + 63, 200)


def test_a_late_alert_counts_for_its_own_day_while_that_is_kept():
    days = AlertDays("e")
    assert [stands(days, 2, 2, day) for day in range(10, 16)] == [2] * 6
    assert stands(days, 2, 1, 10) == 0
    assert [stands(days, 2, 2, day) for day in range(16, 19)] == [2] * 3
    assert stands(days, 2, 1, 10) == 0, "it had an alert, and so is kept before those that had none since"
    assert stands(days, 2, 1, 11) == 1, "seven others had"


def decisions(taken, meant=None, flags=None, explore=()):
    n = len(taken)
    return Decisions(
        (DecidedBy(),),
        "s",
        ("approve", "review", "block"),
        np.full(n, 0.5),
        np.array(taken, np.uint8),
        np.zeros(n, np.uint8) if flags is None else np.array(flags, np.uint8),
        np.zeros((n, 1)),
        explore=explore,
        meant=None if meant is None else np.array(meant, np.uint8),
    )


def test_only_what_is_capped_counts_and_what_was_meant_is_kept():
    cap = CapNode(per_day=1, actions=(1,), instead=0)
    found = capped(cap, decisions([1, 2, 1, 2, 0]), np.zeros(5, np.int64), AlertDays("e"))
    assert found.taken.tolist() == [1, 2, 0, 2, 0]
    assert found.meant.tolist() == [0, 0, 1, 0, 0]
    assert found.flags.tolist() == [0, 0, int(Flag.OVER_BUDGET), 0, 0]
    assert Decisions.from_bytes(found.to_bytes()).meant.tolist() == [0, 0, 1, 0, 0]


def test_labels_of_events_over_the_budget_do_not_count_twice():
    """Explored events stand for all whose score meant the action, also for those that the budget let through."""
    over, explored = int(Flag.OVER_BUDGET), int(Flag.EXPLORED)
    found = decisions(
        [0, 0, 1, 0], meant=[1, 1, 0, 2], flags=[explored, over, 0, over], explore=(0.0, 0.1, 0.0)
    )
    assert found.label_weights().tolist() == [10.0, 0.0, 0.0, 1.0]
    assert [found.propensity(i) for i in range(4)] == [0.1, None, None, None]


def test_the_cap_is_part_of_the_policys_digest():
    def digest(cap):
        return policy_digest(Policy("p", actions={"review": 0.5, "block": 0.9}, cap=cap))

    plain = policy_digest(Policy("p", actions={"review": 0.5, "block": 0.9}))
    assert (
        len({plain, digest(AlertCap(5)), digest(AlertCap(6)), digest(AlertCap(5, actions=["review"]))}) == 4
    )
    assert digest(None) == plain


@pytest.mark.parametrize(
    ("cap", "said"),
    [
        (AlertCap(5, actions=["nothing"]), "nothing"),
        (AlertCap(5, actions=["review"], instead="review"), "another action"),
        (AlertCap(5, instead="block"), "another action"),
        (7, "AlertCap"),
    ],
)
def test_what_cannot_be_capped_is_refused(cap, said):
    rules = [Rule("r", when="v.f", action="hold")]
    with pytest.raises(DefinitionError, match=said):
        Policy("p", actions={"review": 0.5, "block": 0.9}, rules=rules, costs=CostMatrix(1.0, 1.0), cap=cap)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, None])
def test_a_cap_is_a_number_of_alerts(count):
    with pytest.raises(DefinitionError, match="per_day"):
        AlertCap(count)
