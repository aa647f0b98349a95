"""A view's function is tried with everything that the engine would ask of it."""

from datetime import timedelta

from penstock import Aggregate, Entity, PushConfig, StreamFeatureView, StreamSource
from penstock.engine.preview import run_view
from penstock.types import Field, Float64, String, Timestamp

card = Entity("card", [Field("card_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("card_id", String), Field("at", Timestamp), Field("amount", Float64)],
)


def test_the_columns_of_conditions_are_shown_too():
    view = StreamFeatureView(
        "totals",
        source=payments,
        entities=[card],
        features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(hours=1), where="large")],
        function=lambda rows: {**rows, "large": rows["amount"] > 2},
    )
    made = run_view(view, {"card_id": ["a", "b"], "at": [1, 2], "amount": [1.0, 3.0]})
    assert made.column("large").type == "bool"
    assert made.column("large").to_pylist() == [False, True]
