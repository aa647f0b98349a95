"""Folds beside the kernel: what is called, what fails, how long codes live, how far off sketches are."""

import math
import re
import sys
from datetime import timedelta
from pathlib import Path
from random import Random

import numpy as np
import pytest

from penstock import (
    Aggregate,
    Entity,
    FeatureService,
    PushConfig,
    StreamFeatureView,
    StreamSource,
    UserAggregation,
)
from penstock.aggregation_functions import approx_count_distinct, approx_percentile
from penstock.core.errors import MissingDependencyError
from penstock.engine import secondary_keys
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import Rows
from penstock.engine.recovery import decode_state, encode_state
from penstock.engine.sliding import sliding
from penstock.kernel.columns import Columns, Numeric, Text
from penstock.plan.compile import compile_plan
from penstock.types import Field, Float64, Int64, String, Timestamp
from tests.laws import fold_views
from tests.laws.fold_views import Joined, Picky, Rounding, Whole

AMOUNT, DEVICE = Field("amount", Float64), Field("device", String)
HOUR = timedelta(hours=1)
card = Entity("card", [Field("card_id", String)])
events = StreamSource(
    "events", PushConfig(), schema=[Field("card_id", String), Field("at", Timestamp), AMOUNT, DEVICE]
)


def plan_of(features, **options):
    view = StreamFeatureView("view", source=events, entities=[card], features=features, **options)
    return compile_plan([(FeatureService("service", features=[view]), events)])


def rows(cards, times, amounts=None, devices=None):
    n = len(cards)
    columns = {
        "card_id": Text.from_strings(list(cards)),
        "at": Numeric(np.array(times, np.int64)),
        "amount": Numeric(np.array(range(n) if amounts is None else amounts, np.float64)),
        "device": Text.from_strings(["x"] * n if devices is None else devices),
    }
    return {"events": Rows(Columns(n, columns), np.arange(n))}


def advance(state, batch):
    service = state.plan.services["service"]
    return state.advance(batch, services=[service], exact=True)["service"]


class Counted(UserAggregation):
    """The greatest value, counting calls."""

    name, takes, gives = "counted", (Float64,), Float64

    def __init__(self):
        self.calls = dict.fromkeys(("init", "add", "merge", "value"), 0)

    def init(self):
        self.calls["init"] += 1

    def add(self, state, value):
        self.calls["add"] += 1
        return value if state is None else max(state, value)

    def merge(self, left, right):
        self.calls["merge"] += 1
        return max((one for one in (left, right) if one is not None), default=None)

    def value(self, state):
        self.calls["value"] += 1
        return state


def test_with_merge_an_event_costs_a_few_calls_whatever_the_window():
    counted, random = Counted(), Random(1)
    state = FeatureState(plan_of([Aggregate(AMOUNT, counted, time_window=timedelta(microseconds=500))]))
    counted.calls = dict.fromkeys(counted.calls, 0)
    amounts = [random.random() for _ in range(5_000)]
    found = advance(state, rows("a" * 5_000, range(5_000), amounts)).columns[0].values.tolist()
    assert found == [max(amounts[max(i - 499, 0) : i + 1]) for i in range(5_000)]
    tried_alone = 5_000
    assert counted.calls["add"] <= 2 * 5_000 + tried_alone
    assert counted.calls["merge"] <= 2 * 5_000


@pytest.mark.parametrize("aggregation", [Whole(), Joined()])
def test_what_goes_along_gives_what_the_fold_gives(aggregation):
    random = Random(3)
    for _ in range(50):
        along, begin, end, values = sliding(aggregation), 0, 0, {}
        for _ in range(60):
            grown = end + random.randrange(4)
            entering = [(i, random.randrange(9)) for i in range(end, grown) if random.random() < 0.7]
            values.update(entering)
            end, begin = grown, random.randrange(begin, grown + 1)
            found = aggregation.value(along.move(begin, [one for one in entering if one[0] >= begin]))
            held = [value for number, value in values.items() if begin <= number]
            assert found == aggregation.value(aggregation.fold(held))


def test_texts_live_as_long_as_their_batch():
    """Many different texts in a batch of one key, which is worked on row by row, twice over."""
    n = 9_000
    devices = [f"device-{i}" for i in range(n)]
    window = timedelta(microseconds=3)
    for options in ({}, {"aggregation_secondary_key": "device"}):
        plan = plan_of([Aggregate(DEVICE, Joined(), time_window=window)], **options)
        state = FeatureState(plan)
        for start in (0, n):
            made = advance(state, rows("a" * n, range(start, start + n), devices=devices))
        last = [one[-8:] for one in devices[-3:]]
        if options:
            assert made.arrays[0].take(np.array([n - 1])).values.to_strings() == devices[-3:]
            assert made.arrays[1].take(np.array([n - 1])).values.to_strings() == last
        else:
            assert made.columns[0].to_strings()[-1] == "/".join(last)


def test_pairs_in_any_parts_and_after_many_have_left(monkeypatch):
    random = Random(5)
    features = [Aggregate(AMOUNT, f, time_window=timedelta(microseconds=40)) for f in ("sum", "median")]
    plan = plan_of(features, aggregation_secondary_key="device", max_keys=6)
    n = 600
    cards, devices = random.choices("abc", k=n), random.choices("vwxyz", k=n)
    times = np.cumsum([random.randrange(3) for _ in range(n)])
    batch = rows(cards, times, devices=devices)
    whole = advance(FeatureState(plan), batch)
    monkeypatch.setattr(secondary_keys, "_MOST_AT_ONCE", 4)
    monkeypatch.setattr(secondary_keys, "_LEAST_FORGOTTEN", 0)
    state = FeatureState(plan)
    parts = []
    for start in range(0, n, 7):
        at = np.arange(start, min(start + 7, n))
        parts.append(advance(state, {"events": Rows(batch["events"].columns.take(at), at)}))
        state = decode_state(plan, encode_state(state))
    for output, dtype in enumerate(lists.dtype for lists in plan.services["service"].outputs):
        found = [one for part in parts for one in part.arrays[output].to_lists(dtype)]
        assert found == whole.arrays[output].to_lists(dtype)
    assert state.evicted_keys > 100


def test_a_window_that_fails_is_null_and_flagged():
    state = FeatureState(plan_of([Aggregate(AMOUNT, Picky(), time_window=HOUR)]))
    made = advance(state, rows("aaba", range(4)))
    assert made.columns[0].valid.tolist() == [True, True, True, False]
    assert made.degraded.tolist() == [False, False, False, True]


class Wrong(Rounding):
    name = "wrong"

    def value(self, state):
        return "nothing"


def test_what_is_not_of_its_type_is_said_at_the_first_value():
    state = FeatureState(plan_of([Aggregate(AMOUNT, Wrong(), time_window=HOUR)]))
    part = rows("a", [0])["events"]
    _, errors = state.prepare_each("events", part.columns, part.positions)
    assert "holds list values that are not Float64" in errors[0]


def test_a_sketch_says_which_extra_it_needs(monkeypatch):
    plan = plan_of([Aggregate(AMOUNT, approx_percentile(0.5), time_window=HOUR)])
    monkeypatch.setitem(sys.modules, "datasketches", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "penstock\[sketches\]"'):
        FeatureState(plan)


@pytest.mark.parametrize("precision", [4, 8, 12, 16])
def test_the_error_of_a_count_is_what_is_stated(precision):
    aggregation = approx_count_distinct(precision).aggregation
    random, errors = Random(7), []
    for trial in range(60):
        n = random.randrange(200, 5_000)
        values = [f"{trial}-{i}" for i in range(n)]
        errors.append(aggregation.value(aggregation.fold(values)) / n - 1)
    spread = math.sqrt(sum(error**2 for error in errors) / len(errors))
    assert spread < 1.5 * 1.04 / math.sqrt(2**precision)
    assert abs(sum(errors) / len(errors)) < 1.04 / math.sqrt(2**precision)


@pytest.mark.parametrize("precision", [4, 8, 12])
def test_a_count_depends_on_the_set_of_values_alone(precision):
    aggregation, random = approx_count_distinct(precision).aggregation, Random(9)
    for n in [*range(40), 100, 1_000, 20_000]:
        values = list(range(n))
        told = aggregation.value(aggregation.fold(values))
        random.shuffle(values)
        again = random.choices(values, k=n // 2) if values else []
        assert aggregation.value(aggregation.fold([*values, *again])) == told
        assert n > {4: 7, 8: 24, 12: 500}[precision] or told == n


@pytest.mark.parametrize("precision", [20, 100, 400])
@pytest.mark.parametrize("order", ["random", "ascending", "descending", "alternating"])
def test_the_error_of_a_percentile_is_what_is_stated(precision, order):
    numbers = np.random.default_rng(1)
    for n in (50, 1_000, 20_000):
        values = numbers.lognormal(3, 2, n)
        ranked = np.sort(values)
        if order == "ascending":
            values = ranked
        elif order == "descending":
            values = ranked[::-1]
        elif order == "alternating":
            values = np.stack([ranked[: n // 2], ranked[::-1][: n // 2]], axis=1).ravel()
        for percentile in (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0):
            aggregation = approx_percentile(percentile, precision).aggregation
            found = aggregation.value(aggregation.fold(values.tolist()))
            low, high = (np.searchsorted(ranked, found, side) / n for side in ("left", "right"))
            off = max(low - percentile, percentile - high, 0.0)
            bound = 16 if order == "alternating" else 10
            spread = math.sqrt(percentile * (1 - percentile))
            assert off <= bound * spread / precision + 1 / n, (n, percentile)


def test_a_percentile_at_once_is_that_of_one_after_another():
    aggregation = approx_percentile(0.3).aggregation
    for n in (0, 1, 3, 2_000):
        values = np.random.default_rng(n).normal(size=n).tolist()
        state = aggregation.init()
        for value in values:
            state = aggregation.add(state, value)
        assert aggregation.value(state) == aggregation.value(aggregation.fold(values))


def test_the_example_of_the_documents_runs():
    page = (Path(__file__).parents[3] / "docs/aggregates.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {"__name__": fold_views.__name__}
    exec(code, names)
    state = FeatureState(plan_of([names["spread"]]))
    assert advance(state, rows("aab", range(3), [1.0, 4.5, 7.0])).columns[0].values.tolist() == [
        0.0,
        3.5,
        0.0,
    ]
    assert names["Int64"] is Int64


@pytest.mark.parametrize("together", [True, False])
def test_a_key_in_the_place_of_one_that_left_starts_afresh(together):
    state = FeatureState(plan_of([Aggregate(AMOUNT, Whole(), time_window=HOUR)], max_keys=1))
    batch = rows("abacab", range(6), [3, 5, 7, 11, 13, 17])
    columns = batch["events"].columns
    parts = [np.arange(6)] if together else np.arange(6).reshape(6, 1)
    made = [advance(state, {"events": Rows(columns.take(at), at)}).columns[0] for at in parts]
    found = [value for column in made for value in column.values.tolist()]
    assert found == [1_000_000 + amount for amount in (3, 5, 7, 11, 13, 17)]
