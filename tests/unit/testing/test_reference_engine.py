"""The oracle's engine: which rows enter which view when, against numbers worked out by hand."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from penstock import (
    Aggregate,
    Attribute,
    Entity,
    FeatureService,
    LabelSource,
    PushConfig,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeWindow,
    realtime_feature_view,
    stream_feature_view,
)
from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import from_us
from penstock.testing.reference_engine import ReferenceEngine
from penstock.types import Bool, Field, Float32, Float64, Int64, String, Timestamp

S = 1_000_000
MINUTE = timedelta(minutes=1)
AMOUNT = Field("amount", Float64, optional=True)
card = Entity("card", [Field("card_id", String)])
shop = Entity("shop", [Field("shop_id", Int64)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String),
        Field("card_id", String, optional=True),
        Field("payee_id", String, optional=True),
        Field("shop_id", Int64, optional=True),
        Field("time", Timestamp),
        AMOUNT,
    ],
    event_id_field="id",
    allowed_lateness=timedelta(seconds=10),
)
logins = StreamSource(
    "logins",
    PushConfig(),
    schema=[Field("card_id", String), Field("at", Timestamp), Field("device", String)],
    allowed_lateness=timedelta(hours=1),
)
chargebacks = LabelSource("chargebacks", of=payments, label=Field("fraud", Bool), known_at="known_at")


def total(name="total", *, entities=(card,)):
    aggregate = Aggregate(AMOUNT, "sum", time_window=MINUTE, name="sum")
    return StreamFeatureView(name, source=payments, entities=entities, features=[aggregate])


def engine_of(*views):
    return ReferenceEngine(FeatureService("service", features=views).features, source=payments)


def event(time_us, amount=1.0, *, event_id="e", card_id="ann", **columns):
    return {"id": event_id, "time": time_us, "amount": amount, "card_id": card_id, **columns}


def label(event_id, known_at, *, fraud=True):
    return {"id": event_id, "fraud": fraud, "known_at": known_at}


# --- views over the events' own stream ----------------------------------------------------------------------------
def test_features_are_named_and_ordered_as_in_the_service():
    by_card, by_shop = total(), total("shop_total", entities=[shop])
    engine = engine_of(by_shop, by_card.with_name("renamed"))
    assert engine.accept("payments", event(0, 2.0, shop_id=1)) == {"shop_total.sum": 2.0, "renamed.sum": 2.0}
    assert list(engine.accept("payments", event(1, 3.0, shop_id=2))) == ["shop_total.sum", "renamed.sum"]


def test_two_entities_make_one_key():
    engine = engine_of(total(entities=[card, shop]))
    assert engine.accept("payments", event(0, 1.0, shop_id=1)) == {"total.sum": 1.0}
    assert engine.accept("payments", event(0, 2.0, shop_id=2)) == {"total.sum": 2.0}
    assert engine.accept("payments", event(0, 4.0, shop_id=1)) == {"total.sum": 5.0}


def test_an_event_without_a_key_enters_nothing():
    engine = engine_of(total())
    assert engine.accept("payments", event(0, 5.0, card_id=None)) == {"total.sum": 0.0}
    assert engine.accept("payments", event(0, 5.0, card_id=None)) == {"total.sum": 0.0}


def test_keys_are_compared_after_normalisation():
    engine = engine_of(total())
    engine.accept("payments", event(0, 1.0, card_id="caf\u00e9"))
    assert engine.accept("payments", event(0, 2.0, card_id="cafe\u0301")) == {"total.sum": 3.0}


def test_the_source_decides_about_lateness():
    engine = engine_of(total())
    assert engine.accept("payments", event(100 * S, 1.0)) == {"total.sum": 1.0}
    assert engine.accept("payments", event(90 * S, 2.0)) == {"total.sum": 2.0}
    assert engine.accept("payments", event(89 * S, 4.0)) == {"total.sum": 4.0}
    assert engine.accept("payments", event(100 * S, 8.0)) == {"total.sum": 11.0}


def test_a_dropped_event_is_looked_up_as_of_its_time():
    @stream_feature_view(
        source=payments,
        entities=[card],
        mode="python",
        features=[Aggregate(AMOUNT, "sum", time_window=MINUTE, name="s")],
    )
    def large(row):
        return row if row["amount"] is not None and row["amount"] >= 100 else None

    engine = engine_of(large)
    assert engine.accept("payments", event(0, 100.0)) == {"large.s": 100.0}
    assert engine.accept("payments", event(1, 1.0)) == {"large.s": 100.0}
    assert engine.accept("payments", event(60 * S, 1.0)) == {"large.s": 0.0}
    assert engine.accept("payments", event(60 * S, 1.0, card_id="bob")) == {"large.s": 0.0}


def test_a_function_may_make_key_and_time():
    @stream_feature_view(
        source=payments,
        entities=[Entity("prefix", [Field("prefix", String)])],
        mode="python",
        timestamp_field="minute",
        features=[Aggregate(AMOUNT, "count", time_window=MINUTE, name="n")],
    )
    def by_prefix(row):
        return {
            "prefix": row["card_id"][:1],
            "minute": row["time"].replace(second=0, microsecond=0),
            "amount": row["amount"],
        }

    engine = engine_of(by_prefix)
    assert engine.accept("payments", event(59 * S, card_id="ann")) == {"by_prefix.n": 1}
    assert engine.accept("payments", event(10 * S, card_id="abe")) == {"by_prefix.n": 2}
    assert engine.accept("payments", event(61 * S, card_id="ada")) == {"by_prefix.n": 1}


def test_a_join_key_map_looks_up_another_key_after_the_event_has_entered():
    received = total().with_name("payee").with_join_key_map({"card_id": "payee_id"})
    engine = engine_of(total(), received)
    assert engine.accept("payments", event(0, 1.0, payee_id="bob")) == {"total.sum": 1.0, "payee.sum": 0.0}
    assert engine.accept("payments", event(S, 2.0, card_id="bob", payee_id="ann")) == {
        "total.sum": 2.0,
        "payee.sum": 1.0,
    }
    assert engine.accept("payments", event(S, 4.0, payee_id="ann")) == {"total.sum": 5.0, "payee.sum": 5.0}
    assert engine.accept("payments", event(S, 8.0, payee_id=None))["payee.sum"] == 0.0


# --- modes --------------------------------------------------------------------------------------------------------
def _double_python(row):
    if row["amount"] is None:
        return None
    return {**row, "amount": row["amount"] * 2}


def _double_numpy(rows):
    keep = rows["amount"] == rows["amount"]
    return {name: rows[name][keep] * (2 if name == "amount" else 1) for name in ("amount",)} | {
        name: rows[name][keep] for name in ("card_id", "time", "_row")
    }


def _double_pandas(rows):
    return rows.assign(amount=rows["amount"] * 2).dropna(subset="amount")


def _double_polars(rows):
    import polars as pl

    return rows.with_columns(pl.col("amount") * 2).drop_nulls("amount")


@pytest.mark.parametrize(
    ("mode", "function"),
    [
        ("python", _double_python),
        ("numpy", _double_numpy),
        ("pandas", _double_pandas),
        ("polars", _double_polars),
    ],
)
def test_all_modes_mean_the_same(mode, function):
    view = StreamFeatureView(
        "view",
        source=payments,
        entities=[card],
        mode=mode,
        function=function,
        features=[
            Aggregate(AMOUNT, "sum", time_window=MINUTE, name="sum"),
            Aggregate(AMOUNT, "time_since_last", time_window=MINUTE, name="since"),
        ],
    )
    engine = engine_of(view)
    assert engine.accept("payments", event(0, 1.5)) == {"view.sum": 3.0, "view.since": None}
    assert engine.accept("payments", event(S, None)) == {"view.sum": 3.0, "view.since": 1.0}
    assert engine.accept("payments", event(2 * S + 1, 2.0)) == {"view.sum": 7.0, "view.since": 2.000001}


@pytest.mark.parametrize(
    ("mode", "function"),
    [
        ("python", lambda rows: {}),
        ("numpy", lambda rows: {"time": rows["time"]}),
        ("pandas", lambda rows: rows[["time"]]),
    ],
)
def test_a_column_that_is_not_returned_is_an_error(mode, function):
    features = [Aggregate(AMOUNT, "sum", time_window=MINUTE)]
    view = StreamFeatureView(
        "view", source=payments, entities=[card], mode=mode, function=function, features=features
    )
    with pytest.raises(InputError, match="view 'view': the function did not return 'card_id'"):
        engine_of(view).accept("payments", event(0))


def test_a_function_that_adds_rows_is_an_error():
    def twice(rows):
        return {name: rows[name].repeat(2) for name in ("card_id", "time", "amount")}

    features = [Aggregate(AMOUNT, "sum", time_window=MINUTE)]
    view = StreamFeatureView("view", source=payments, entities=[card], function=twice, features=features)
    with pytest.raises(InputError, match=r"rows out of one row; allowed"):
        engine_of(view).accept("payments", event(0))


# --- views over another stream ------------------------------------------------------------------------------------
def test_another_stream_is_looked_up_at_the_events_time():
    devices = StreamFeatureView(
        "devices",
        source=logins,
        entities=[card],
        features=[Aggregate(Field("device", String), "last", time_window=MINUTE, name="last")],
    )
    engine = engine_of(devices)
    assert engine.accept("logins", {"card_id": "ann", "at": 10 * S, "device": "phone"}) is None
    assert engine.accept("payments", event(9 * S)) == {"devices.last": None}
    assert engine.accept("payments", event(10 * S)) == {"devices.last": "phone"}
    assert engine.accept("payments", event(10 * S, card_id="bob")) == {"devices.last": None}
    assert engine.accept("payments", event(70 * S)) == {"devices.last": None}


def test_a_source_that_feeds_nothing_is_refused():
    with pytest.raises(NotFoundError, match=r"'logins'.*payments"):
        engine_of(total()).accept("logins", {})


# --- labels -------------------------------------------------------------------------------------------------------
def risk(**window):
    label_field = Field("fraud", Bool)
    return StreamFeatureView(
        "risk",
        source=chargebacks,
        entities=[card],
        features=[
            Aggregate(label_field, "count", time_window=TimeWindow(timedelta(hours=1), **window), name="n"),
            Aggregate(
                label_field, "sum", time_window=TimeWindow(timedelta(hours=1), **window), name="frauds"
            ),
        ],
    )


def seen(n, frauds):
    return {"risk.n": n, "risk.frauds": frauds}


def test_a_label_enters_when_it_becomes_known():
    engine = engine_of(risk())
    assert engine.accept("payments", event(0, event_id="a")) == seen(0, 0)
    assert engine.accept("chargebacks", label("a", 100 * S)) is None
    assert engine.accept("payments", event(100 * S - 1, event_id="b")) == seen(0, 0)
    assert engine.accept("payments", event(100 * S, event_id="c")) == seen(1, 1)


def test_an_event_never_sees_its_own_label_that_came_before_it():
    engine = engine_of(risk())
    engine.accept("chargebacks", label("a", 0))
    assert engine.accept("payments", event(10 * S, event_id="a")) == seen(0, 0)
    assert engine.accept("payments", event(10 * S, event_id="b")) == seen(1, 1)


def test_a_label_for_an_event_that_never_comes_enters_nothing():
    engine = engine_of(risk())
    engine.accept("chargebacks", label("missing", 0))
    assert engine.accept("payments", event(10 * S, event_id="b")) == seen(0, 0)


@pytest.mark.parametrize("second", [True, False])
def test_duplicates_and_corrections_do_not_enter(second):
    engine = engine_of(risk())
    engine.accept("payments", event(0, event_id="a"))
    engine.accept("chargebacks", label("a", S, fraud=False))
    engine.accept("chargebacks", label("a", 2 * S, fraud=second))
    assert engine.accept("payments", event(10 * S, event_id="b")) == seen(1, 0)


def test_a_correction_that_also_comes_before_its_event_does_not_enter():
    engine = engine_of(risk())
    engine.accept("chargebacks", label("a", S, fraud=False))
    engine.accept("chargebacks", label("a", S, fraud=True))
    engine.accept("payments", event(0, event_id="a"))
    engine.accept("chargebacks", label("a", S, fraud=True))
    assert engine.accept("payments", event(10 * S, event_id="b")) == seen(1, 0)


def test_a_label_too_late_for_its_key_does_not_enter():
    engine = engine_of(risk())
    engine.accept("payments", event(0, event_id="a"))
    engine.accept("payments", event(0, event_id="b"))
    engine.accept("chargebacks", label("a", 7200 * S))
    engine.accept("chargebacks", label("b", 3600 * S - 1))
    assert engine.accept("payments", event(7200 * S, event_id="c")) == seen(1, 1)


def test_the_delay_of_labels_is_an_offset():
    engine = engine_of(risk(offset=timedelta(minutes=-10)))
    engine.accept("payments", event(0, event_id="a"))
    engine.accept("chargebacks", label("a", 0))
    assert engine.accept("payments", event(600 * S - 1, event_id="b")) == seen(0, 0)
    assert engine.accept("payments", event(600 * S, event_id="c")) == seen(1, 1)


def test_a_label_view_may_aggregate_the_events_columns():
    view = StreamFeatureView(
        "lost",
        source=chargebacks,
        entities=[card],
        features=[Aggregate(AMOUNT, "sum", time_window=MINUTE, name="amount", where="fraud")],
    )
    engine = engine_of(view)
    for event_id, amount, fraud in (("a", 3.0, True), ("b", 5.0, False), ("c", 7.0, True)):
        engine.accept("payments", event(0, amount, event_id=event_id))
        engine.accept("chargebacks", label(event_id, S, fraud=fraud))
    assert engine.accept("payments", event(2 * S, event_id="d")) == {"lost.amount": 10.0}


def test_event_ids_are_compared_after_normalisation():
    engine = engine_of(risk())
    engine.accept("payments", event(0, event_id="\u00e9"))
    engine.accept("chargebacks", label("e\u0301", 0))
    assert engine.accept("payments", event(S, event_id="b")) == seen(1, 1)


# --- realtime views -----------------------------------------------------------------------------------------------
request = RequestSource([Field("time", Timestamp), AMOUNT])


def test_a_realtime_view_sees_the_event_and_other_features():
    @realtime_feature_view(
        sources=[request, total()[["sum"]]],
        mode="python",
        features=[Attribute("share", Float64), Attribute("second", Int64)],
    )
    def ratio(request, totals):
        return {"share": request["amount"] / totals["sum"], "second": request["time"].second}

    engine = engine_of(ratio)
    assert engine.accept("payments", event(S, 3.0)) == {"ratio.share": 1.0, "ratio.second": 1}
    assert engine.accept("payments", event(2 * S, 1.0)) == {"ratio.share": 0.25, "ratio.second": 2}


@pytest.mark.parametrize("mode", ["numpy", "pandas", "polars"])
def test_realtime_views_in_array_modes(mode):
    def share(request, totals):
        column = request["amount"] / totals["sum"]
        return (
            request.select(column.alias("share"))
            if mode == "polars"
            else (column.to_frame("share") if mode == "pandas" else {"share": column})
        )

    view = realtime_feature_view(
        sources=[request, total()], mode=mode, features=[Attribute("share", Float64)]
    )(share)
    engine = engine_of(view)
    assert engine.accept("payments", event(0, 3.0)) == {"share.share": 1.0}
    assert engine.accept("payments", event(0, 1.0)) == {"share.share": 0.25}
    assert engine.accept("payments", event(0, None)) == {"share.share": None}
    assert engine.accept("payments", event(60 * S, 0.0)) == {"share.share": None}  # 0 / 0


def attribute(value, dtype):
    view = realtime_feature_view(
        sources=[request], mode="python", features=[Attribute("a", dtype)], name="view"
    )(lambda _request: {"a": value})
    return engine_of(view).accept("payments", event(0))["view.a"]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (math.nan, Float64, None),
        (math.inf, Float64, None),
        (3, Float64, 3.0),
        (True, Float64, 1.0),
        (0.1, Float32, 0.10000000149011612),
        (1e39, Float32, None),
        (2.0, Int64, 2),
        (1, Bool, True),
        (from_us(5), Timestamp, 5),
        ("a", String, "a"),
        (None, String, None),
    ],
)
def test_attributes_are_cast_to_their_type(value, dtype, expected):
    assert repr(attribute(value, dtype)) == repr(expected)


@pytest.mark.parametrize(
    ("value", "dtype"), [(0.5, Int64), (2**63, Int64), (2, Bool), ("1", Int64), (1, String)]
)
def test_attributes_that_do_not_fit_are_refused(value, dtype):
    with pytest.raises(InputError, match=r"was promised.*found; allowed"):
        attribute(value, dtype)


def test_a_realtime_view_may_not_drop_the_event():
    view = realtime_feature_view(
        sources=[request], mode="python", features=[Attribute("a", Int64)], name="view"
    )(lambda _: None)
    with pytest.raises(InputError, match="dropped the event; allowed"):
        engine_of(view).accept("payments", event(0))
