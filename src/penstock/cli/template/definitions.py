"""Card payments: what arrives, which features are made of it, what is predicted, and what is done about it."""

from datetime import timedelta

import numpy as np
from xgboost import XGBClassifier

from penstock import (
    Aggregate,
    Attribute,
    CostMatrix,
    Endpoint,
    Entity,
    FeatureService,
    FileConfig,
    Gate,
    LabelSource,
    Model,
    Policy,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
    realtime_feature_view,
)
from penstock.types import Bool, Field, Float64, String, Timestamp

DAY = timedelta(days=1)
AMOUNT = Field("amount", Float64)
PAID_AT = Field("paid_at", Timestamp)
IS_FRAUD = Field("is_fraud", Bool)

# What a feature describes.
card = Entity(name="card", join_keys=[Field("card_id", String)])
shop = Entity(name="shop", join_keys=[Field("shop_id", String)])

# What arrives: payments at once, chargebacks days later.
payments = StreamSource(
    name="payments",
    stream_config=FileConfig("data/payments.ndjson", "ndjson"),
    schema=[
        Field("payment_id", String),
        Field("card_id", String),
        Field("shop_id", String),
        PAID_AT,
        AMOUNT,
    ],
    event_id_field="payment_id",
)
chargebacks = LabelSource(
    name="chargebacks",
    of=payments,
    label=IS_FRAUD,
    known_at="reported_at",
    stream_config=FileConfig("data/chargebacks.ndjson", "ndjson"),
)

# How the card was used lately, and how often payments at the shop turned out to be fraud, as far as known by then.
card_spending = StreamFeatureView(
    "card_spending",
    source=payments,
    entities=[card],
    features=[
        Aggregate(AMOUNT, function, time_window=window)
        for window in (timedelta(hours=1), DAY, 7 * DAY)
        for function in ("count", "mean")
    ],
)
shop_risk = StreamFeatureView(
    "shop_risk",
    source=chargebacks,
    entities=[shop],
    features=[
        Aggregate(IS_FRAUD, "count", time_window=14 * DAY),
        Aggregate(IS_FRAUD, "mean", time_window=14 * DAY),
    ],
)


@realtime_feature_view(
    sources=[RequestSource([AMOUNT, PAID_AT]), card_spending[["amount_mean_7d_continuous"]]],
    features=[Attribute("amount", Float64), Attribute("night", Float64), Attribute("times_usual", Float64)],
)
def payment(request, spending):
    """The payment itself, and how it compares with what the card usually pays."""
    hour = request["paid_at"].astype("M8[h]").astype(np.int64) % 24
    return {
        "amount": request["amount"],
        "night": (hour < 6).astype(np.float64),
        "times_usual": request["amount"] / spending["amount_mean_7d_continuous"],
    }


fraud_features = FeatureService("fraud_features", features=[payment, card_spending, shop_risk])

# What is predicted, and what is done about it.
fraud = Model(
    "fraud",
    features=fraud_features,
    label=chargebacks,
    estimator=XGBClassifier(n_estimators=60, max_depth=3, learning_rate=0.2, n_jobs=1, random_state=0),
    split=TimeSplit(train=14 * DAY, delay=3 * DAY, test=7 * DAY),
    gate=Gate(min_positives=15),  # the sample is small; 30 and more say more
)
card_policy = Policy(
    "card_policy",
    actions={"block": 0.8, "review": 0.3},
    costs=CostMatrix(false_positive=5.0, false_negative="amount"),
)
checkout = Endpoint("checkout", source=payments, model=fraud, policy=card_policy)
