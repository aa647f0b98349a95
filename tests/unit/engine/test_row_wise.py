"""Functions that look at other rows are refused on the first batch that shows it; others are looked at once."""

from datetime import timedelta

import numpy as np
import pytest

from penstock import (
    Aggregate,
    Attribute,
    Entity,
    FeatureService,
    PushConfig,
    RealtimeFeatureView,
    StreamFeatureView,
    StreamSource,
)
from penstock.core.errors import PlanError, TransformError
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import Rows
from penstock.kernel.columns import Columns, Numeric, Text
from penstock.plan.compile import compile_plan
from penstock.types import Field, Float64, String, Timestamp

pl = pytest.importorskip("polars")

AMOUNT = Field("amount", Float64)
payments = StreamSource(
    "payments", PushConfig(), schema=[Field("name", String), Field("timestamp", Timestamp), AMOUNT]
)


def state_of(function, mode="numpy", realtime=None):
    view = StreamFeatureView(
        "by_name",
        source=payments,
        entities=[Entity("person", [Field("name", String)])],
        features=[Aggregate(AMOUNT, "sum", time_window=timedelta(hours=1), name="total")],
        mode=mode,
        function=function,
    )
    features = [view]
    if realtime is not None:
        share = [Attribute("share", Float64)]
        features.append(RealtimeFeatureView("shares", sources=[view], features=share, function=realtime))
    return FeatureState(compile_plan([(FeatureService("service", features=features), payments)]))


def rows(*amounts):
    count = len(amounts)
    columns = {
        "name": Text.from_strings([f"n{i}" for i in range(count)]),
        "timestamp": Numeric(np.arange(count)),
        "amount": Numeric(np.array(amounts)),
    }
    return Rows(Columns(count, columns), np.arange(count))


def advance(state, *amounts):
    return state.advance({"payments": rows(*amounts)}, services=list(state.plan.services.values()))["service"]


OF_OTHERS = {
    "share": ("numpy", lambda c: {**c, "amount": c["amount"] / c["amount"].sum()}),
    "reversed": ("numpy", lambda c: {**c, "amount": c["amount"][::-1]}),
    "names": ("numpy", lambda c: {**c, "name": c["name"][::-1]}),
    "first": (
        "numpy",
        lambda c: {name: c[name][c["amount"] == c["amount"][0]] for name in (*c, "_row")},
    ),
    "shift": ("pandas", lambda frame: frame.assign(amount=frame["amount"].shift())),
    "unmarked": ("polars", lambda frame: frame.drop("_row").reverse()),
    "rank": ("polars", lambda frame: frame.with_columns(pl.col("amount").rank())),
}


@pytest.mark.parametrize("case", OF_OTHERS)
@pytest.mark.parametrize("amounts", [(1.0, 3.0), (2.0, 5.0, 9.0), tuple(range(1, 100))])
def test_a_views_function_that_looks_at_other_rows_is_refused(case, amounts):
    mode, function = OF_OTHERS[case]
    state = state_of(function, mode)
    for amount in amounts[:2]:
        state.prepare("payments", rows(float(amount)).columns, np.arange(1))
    for _ in range(2):
        with pytest.raises(PlanError, match="'by_name': the function looks at other rows"):
            advance(state, *map(float, amounts))


def test_a_realtime_function_that_looks_at_other_rows_is_refused():
    state = state_of(None, realtime=lambda of: {"share": of["total"] / of["total"].sum()})
    assert advance(state, 2.0).values.tolist() == [[2.0, 1.0]]
    with pytest.raises(PlanError, match="'shares': the function looks at other rows"):
        advance(state, 1.0, 3.0)


def test_functions_are_looked_at_once():
    calls = {"view": [], "realtime": []}

    def plain(columns):
        calls["view"].append(len(columns["amount"]))
        return {**columns, "amount": np.log(columns["amount"] - 2.0)}

    def share(of):
        calls["realtime"].append(len(of["total"]))
        return {"share": of["total"] / 3.0}

    state = state_of(plain, realtime=share)
    calls["view"].clear()  # compiling a plan calls it, too
    for amounts in ((1.0,), (1.0, 2.0, 3.0, 4.0), (5.0, 6.0), (7.0,)):
        advance(state, *amounts)
    assert calls == {"view": [1, 4, 1, 1, 1, 2, 1], "realtime": [1, 4, 1, 1, 1, 2, 1]}


def test_rows_may_be_dropped():
    state = state_of(lambda c: {name: c[name][c["amount"] > 2.0] for name in (*c, "_row")})
    assert advance(state, 1.0, 3.0, 2.0, 4.0).values[:, 0].tolist() == [0.0, 3.0, 0.0, 4.0]


def test_a_row_that_fails_alone_is_at_fault_itself():
    def second(columns):
        columns["amount"][len(columns["amount"]) - 2]
        if columns["amount"].tolist() == [2.0]:
            raise ValueError("two")
        return columns

    with pytest.raises(TransformError, match="two"):
        advance(state_of(second), 1.0, 2.0)


def test_a_realtime_function_that_fails_on_a_row_alone_degrades_it():
    def picky(of):
        if of["total"].tolist() == [2.0]:
            raise ValueError("two")
        return {"share": of["total"]}

    assert advance(state_of(None, realtime=picky), 1.0, 2.0).degraded.tolist() == [False, True]
