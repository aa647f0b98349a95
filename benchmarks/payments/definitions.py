"""The stream benchmark as a Penstock project: the whole of what a user writes for it."""

from datetime import timedelta

from xgboost import XGBClassifier

from penstock import (
    Aggregate,
    Attribute,
    Endpoint,
    Entity,
    FeatureService,
    LabelSource,
    Model,
    Policy,
    PushConfig,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
    realtime_feature_view,
)
from penstock.types import Bool, Field, Float64, String, Timestamp

AMOUNT = Field("amount", Float64)
DAY = timedelta(days=1)

card = Entity("card", [Field("card_id", String)])
terminal = Entity("terminal", [Field("terminal_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("event_id", String),
        Field("card_id", String),
        Field("terminal_id", String),
        Field("event_time", Timestamp),
        AMOUNT,
    ],
    event_id_field="event_id",
)
chargebacks = LabelSource("chargebacks", of=payments, label=Field("is_fraud", Bool), known_at="reported_at")

spending = [
    Aggregate(AMOUNT, function, time_window=days * DAY)
    for days in (1, 7, 30)
    for function in ("count", "mean")
]
by_card = StreamFeatureView("by_card", source=payments, entities=[card], features=spending)
by_terminal = StreamFeatureView("by_terminal", source=payments, entities=[terminal], features=spending)


@realtime_feature_view(sources=[RequestSource([AMOUNT])], features=[Attribute("amount", Float64)])
def payment(request):
    """The payment itself."""
    return {"amount": request["amount"]}


model = Model(
    "fraud",
    features=FeatureService("fraud_features", features=[payment, by_card, by_terminal]),
    label=chargebacks,
    estimator=XGBClassifier(n_estimators=100, max_depth=6, tree_method="hist", n_jobs=1),
    split=TimeSplit(train=DAY, delay=DAY, test=DAY),
)
policy = Policy("card", actions={"block": 0.9, "review": 0.5})
checkout = Endpoint("checkout", source=payments, model=model, policy=policy)
