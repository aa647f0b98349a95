"""Features in a range: a look-up at any time gives the values of the interval that holds it, to the last bit."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from penstock import (
    Aggregate,
    FeatureService,
    LifetimeWindow,
    StreamFeatureView,
    TimeWindow,
    TimeWindowSeries,
)
from penstock import aggregation_functions as functions
from penstock.core.errors import InputError, PlanError
from penstock.core.time import from_us
from penstock.definitions.aggregate_functions import TRAITS
from penstock.engine import ordered_log, ranges
from penstock.engine.change_points import STEADY
from penstock.types import Field, Float64, String
from tests.laws.fold_views import Rounding
from tests.unit.app.offline_project import DAY, MINUTE, START, open_runtime, project, steps

BATCHES = steps(5, count=10)
UNSTEADY = {"time_since_last", "time_since_first", "ewma", "decayed_sum", "decayed_count"}
FROM, TO = START + DAY // 3, START + 2 * DAY


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    with open_runtime(project(tmp_path_factory.mktemp("range") / "p")) as opened:
        for source, events in BATCHES:
            opened.ingest(source, events)
        yield opened


def listed(table):
    """Rows as tuples, floats by their bits."""
    columns = []
    for column in table.columns:
        if pa.types.is_floating(column.type):
            bits = [None if v is None else np.float64(v).tobytes() for v in column.to_pylist()]
            columns.append(bits)
        else:
            columns.append([repr(v) if isinstance(v, list) else v for v in column.to_pylist()])
    return list(zip(*columns, strict=True))


def times_of(table, name):
    return table.column(name).cast(pa.int64()).to_numpy()


def every_kind(runtime):
    """All functions that have intervals, over all kinds of windows."""
    hour = timedelta(hours=1)
    names = [name.partition("(") for name in TRAITS]
    given = {"approx_count_distinct": 8, "approx_percentile": 0.5}
    steady = [(getattr(functions, n)(given.get(n, 2)) if p else n) for n, p, _ in names if n in STEADY]
    steady += ["last"]
    assert {n for n, _, _ in names} - {str(one).partition("(")[0] for one in steady} == UNSTEADY
    amount, note = Field("amount", Float64), Field("note", String)
    features = [Aggregate(amount, one, time_window=2 * hour) for one in [*dict.fromkeys(steady), Rounding()]]
    for window, options in [
        (TimeWindow(3 * hour, offset=-hour), {}),
        (hour, {"aggregation_interval": timedelta(minutes=30)}),
        (TimeWindow(2 * hour, offset=-hour), {"aggregation_interval": timedelta(minutes=20)}),
        (hour, {"include_current": False}),
        (LifetimeWindow(), {}),
        (LifetimeWindow(), {"aggregation_interval": hour}),
        (TimeWindowSeries(-4 * hour, hour), {}),
    ]:
        features += [Aggregate(amount, "sum", time_window=window, **options)]
        features += [Aggregate(note, "last", time_window=window, **options)]
    entities = [runtime.project.entities["card"]]
    source = runtime.project.sources["tx"]
    return StreamFeatureView("every_kind", source=source, entities=entities, features=features)


def by_note(runtime):
    """Lists by a secondary key, over windows that slide, move by tiles, and have no end."""
    hour = timedelta(hours=1)
    windows = [(2 * hour, {}), (hour, {"aggregation_interval": hour / 4}), (LifetimeWindow(), {})]
    return StreamFeatureView(
        "by_note",
        source=runtime.project.sources["tx"],
        entities=[runtime.project.entities["card"]],
        aggregation_secondary_key="note",
        features=[
            Aggregate(Field("amount", Float64), function, time_window=window, **options)
            for function in ("sum", "last")
            for window, options in windows
        ],
    )


MADE = {"every_kind": every_kind, "by_note": by_note}


@pytest.mark.parametrize("name", ["spending", "risk", "lists", *MADE])
def test_a_look_up_at_any_time_gives_the_interval_that_holds_it(runtime, name):
    view = MADE[name](runtime) if name in MADE else runtime.project.views[name]
    made = view.get_features_in_range(from_us(FROM), from_us(TO))
    table = made.to_arrow()
    key = table.column_names[0]
    names = list(made.feature_names)
    start, stop = times_of(table, "_valid_from"), times_of(table, "_valid_to")
    assert table.column_names == [key, *names, "_valid_from", "_valid_to"]
    assert (start < stop).all()
    assert start.min() == FROM
    assert stop.max() == TO
    assert (np.diff(stop) >= 0).all(), "in the order in which they end"
    chance = random.Random(1)
    asked = [(k, t) for k, t in zip(table.column(key).to_pylist(), start.tolist(), strict=True)]
    asked += [(k, t - 1) for k, t in zip(table.column(key).to_pylist(), stop.tolist(), strict=True)]
    asked += [(chance.choice(asked)[0], chance.randrange(FROM, TO)) for _ in range(300)]
    events = pa.table(
        {key: [k for k, _ in asked], "at": pa.array([t for _, t in asked], pa.timestamp("us", "UTC"))}
    )
    found = view.get_features_for_events(events).to_arrow().select(names)
    intervals = {}
    for row, k, a, b in zip(
        listed(table.select(names)), table.column(key).to_pylist(), start, stop, strict=True
    ):
        intervals.setdefault(k, []).append((a, b, row))
    checked = 0
    for (k, t), row in zip(asked, listed(found), strict=True):
        holding = [values for a, b, values in intervals[k] if a <= t < b]
        if t >= intervals[k][0][0]:
            assert holding == [row], (k, t)
            checked += 1
        else:
            assert not holding, "before its first event a key has none"
    assert checked > len(table)


@pytest.mark.parametrize("name", ["spending", "lists"])
def test_intervals_of_a_key_follow_each_other_and_differ(runtime, name):
    table = runtime.project.views[name].get_features_in_range(from_us(FROM), from_us(TO)).to_arrow()
    by_key = {}
    values = listed(table.drop_columns(["card_id", "_valid_from", "_valid_to"]))
    for k, a, b, v in zip(
        table.column("card_id").to_pylist(),
        times_of(table, "_valid_from"),
        times_of(table, "_valid_to"),
        values,
        strict=True,
    ):
        by_key.setdefault(k, []).append((a, b, v))
    assert set(by_key) == {"a", "b", "Zoë", "dora-the-forgotten"}
    for rows in by_key.values():
        rows.sort(key=lambda row: row[0])
        assert rows[-1][1] == TO
        for (_, end, before), (start, _, after) in pairwise(rows):
            assert start == end
            assert before != after


def test_only_the_entities_that_are_asked_for(runtime):
    view = runtime.project.views["spending"]
    whole = view.get_features_in_range(from_us(FROM), from_us(TO)).to_arrow()
    part = view.get_features_in_range(
        from_us(FROM), from_us(TO), entities={"card_id": ["Zoë", "nobody"]}
    ).to_arrow()
    assert part.equals(whole.filter(pa.compute.equal(whole.column("card_id"), "Zoë")))
    assert len(part)


def test_small_blocks_make_no_difference(runtime, monkeypatch, tmp_path):
    view = runtime.project.views["risk"]
    whole = view.get_features_in_range(from_us(FROM), from_us(TO)).to_arrow()
    monkeypatch.setattr(ordered_log, "_BLOCK_ROWS", 3)
    monkeypatch.setattr(ordered_log, "_SORTED_ROWS", 10)
    monkeypatch.setattr(ordered_log, "CHUNK_ROWS", 5)
    monkeypatch.setattr(ranges, "_SLICE_ROWS", 4)
    stream = view.get_features_in_range(from_us(FROM), from_us(TO))
    assert stream.to_arrow().equals(whole)
    assert stream.to_parquet(tmp_path / "x.parquet") == len(whole)
    assert [len(b) for b in stream.batches(rows=len(whole) - 1)] == [len(whole) - 1, 1]


def test_a_service_of_one_key_and_a_key_of_several_columns(runtime):
    project_ = runtime.project
    card, shop = project_.entities["card"], project_.entities["shop"]
    hour = timedelta(hours=1)
    pair = StreamFeatureView(
        "pair",
        source=project_.sources["tx"],
        entities=[card, shop],
        features=[Aggregate(Field("amount", Float64), "max", time_window=TimeWindow(hour))],
    )
    table = pair.get_features_in_range(from_us(FROM), from_us(TO)).to_arrow()
    assert table.column_names[:2] == ["card_id", "shop_id"]
    held = {
        (e["card_id"], e["shop_id"])
        for s, es in BATCHES
        if s == "tx"
        for e in es
        if e["card_id"] and e["at"] < TO
    }
    assert (
        set(zip(table.column("card_id").to_pylist(), table.column("shop_id").to_pylist(), strict=True))
        == held
    )
    both = FeatureService("both", features=[project_.views["spending"], project_.views["entries"]])
    joined = both.get_features_in_range(from_us(FROM), from_us(TO)).to_arrow()
    events = joined.select(["card_id"]).append_column("at", joined.column("_valid_from"))
    names = [n for n in joined.column_names if "__" in n]
    looked_up = both.get_features_for_events(events).to_arrow().select(names)
    assert listed(looked_up) == listed(joined.select(names))


def test_what_has_no_intervals_is_refused(runtime):
    tx, card = runtime.project.sources["tx"], runtime.project.entities["card"]
    since = StreamFeatureView(
        "since",
        source=tx,
        entities=[card],
        features=[Aggregate(Field("amount", Float64), "time_since_last", time_window=timedelta(hours=1))],
    )
    with pytest.raises(PlanError, match=r"since\..* is a time_since_last, which changes with time itself"):
        since.get_features_in_range(from_us(FROM), from_us(TO))
    decayed = Aggregate(
        Field("amount", Float64), functions.ewma(timedelta(hours=2)), time_window=timedelta(hours=1)
    )
    with pytest.raises(PlanError, match=r"is a ewma\(2h\), which changes with time itself"):
        StreamFeatureView("ewma", source=tx, entities=[card], features=[decayed]).get_features_in_range(
            from_us(FROM), from_us(TO)
        )
    with pytest.raises(PlanError, match=r"of the keys \(card_id\) and \(shop_id\)"):
        runtime.project.services["features"].get_features_in_range(from_us(FROM), from_us(TO))
    with pytest.raises(InputError, match="start_time before end_time"):
        runtime.project.views["risk"].get_features_in_range(from_us(TO), from_us(TO))
    with pytest.raises(InputError, match=r"column 'card_id' .* is missing"):
        runtime.project.views["spending"].get_features_in_range(
            from_us(FROM), from_us(TO), entities={"x": [1]}
        )
    assert (
        len(
            runtime.project.views["risk"].get_features_in_range(
                from_us(START - DAY), from_us(START - MINUTE * 900)
            )
        )
        == 0
    )
