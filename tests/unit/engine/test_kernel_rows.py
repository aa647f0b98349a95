"""Rows on their way into a kernel: keys, whoever made them."""

from datetime import timedelta

import numpy as np

from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.engine.features import FeatureState
from penstock.kernel.columns import Columns, Numeric, Text
from penstock.plan.compile import compile_plan
from penstock.types import Field, Float64, String, Timestamp

AMOUNT = Field("amount", Float64)
payments = StreamSource(
    "payments", PushConfig(), schema=[Field("name", String), Field("timestamp", Timestamp), AMOUNT]
)


def prepared(function):
    view = StreamFeatureView(
        "by_name",
        source=payments,
        entities=[Entity("person", [Field("name", String)])],
        features=[Aggregate(AMOUNT, "sum", time_window=timedelta(hours=1))],
        mode="python",
        function=function,
    )
    plan = compile_plan([(FeatureService("service", features=[view]), payments)])
    columns = {
        "name": Text.from_strings(["Zo\u00eb", "Zo\u00eb"]),
        "timestamp": Numeric(np.array([1, 2])),
        "amount": Numeric(np.array([1.0, 2.0])),
    }
    return FeatureState(plan).prepare("payments", Columns(2, columns), np.arange(2))[0]


def test_keys_that_a_function_makes_are_in_nfc():
    def decompose(row):
        return {**row, "name": "Zoe\u0308"} if row["amount"] == 1.0 else row

    assert set(prepared(decompose).keys.to_strings()) == {"Zo\u00eb"}
