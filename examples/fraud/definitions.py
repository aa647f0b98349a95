"""Card-payment fraud: events, labels, the 15 published features, four models, policy and endpoint."""

from datetime import UTC, datetime, timedelta

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from penstock import (
    Aggregate,
    Attribute,
    CostMatrix,
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
from penstock.types import Bool, Field, Float64, Int64, Timestamp

DAY = timedelta(days=1)
WINDOWS = (DAY, 7 * DAY, 30 * DAY)

customer = Entity(name="customer", join_keys=[Field("customer_id", Int64)])
terminal = Entity(name="terminal", join_keys=[Field("terminal_id", Int64)])
amount, is_fraud = Field("amount", Float64), Field("is_fraud", Bool)

transactions = StreamSource(
    name="transactions",
    stream_config=PushConfig(),
    schema=[
        Field("transaction_id", Int64),
        Field("timestamp", Timestamp),
        Field("customer_id", Int64),
        Field("terminal_id", Int64),
        amount,
    ],
    event_id_field="transaction_id",
)
chargebacks = LabelSource(name="chargebacks", of=transactions, label=is_fraud, known_at="reported_at")

spending = StreamFeatureView(
    name="spending",
    source=transactions,
    entities=[customer],
    features=[Aggregate(amount, function, time_window=w) for w in WINDOWS for function in ("count", "mean")],
)

# A view over labels: a fraud counts from the moment it was reported, never before.
terminal_risk = StreamFeatureView(
    name="terminal_risk",
    source=chargebacks,
    entities=[terminal],
    features=[
        Aggregate(is_fraud, function, time_window=w) for w in WINDOWS for function in ("count", "mean")
    ],
)


@realtime_feature_view(
    sources=[RequestSource(schema=[amount, Field("timestamp", Timestamp)])],
    features=[Attribute("amount", Float64), Attribute("is_weekend", Bool), Attribute("is_night", Bool)],
)
def payment(request):
    """What the payment itself tells."""
    days = request["timestamp"].astype("datetime64[D]")
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    hour = (request["timestamp"] - days) // np.timedelta64(1, "h")
    return {"amount": request["amount"], "is_weekend": weekday >= 5, "is_night": hour <= 6}


@realtime_feature_view(
    sources=[terminal_risk],
    features=[Attribute(name, Float64) for name in terminal_risk.feature_types],
)
def known_risk(risk):
    """Nothing is known of a terminal without labels: its share of frauds counts as 0, as published."""
    return {name: np.nan_to_num(shares) for name, shares in risk.items()}


fraud_features = FeatureService(name="fraud_features", features=[payment, spending, known_risk])


def model(name, estimator):
    """A model of the published protocol: a week to train, a week for labels to arrive, a week to test."""
    split = TimeSplit(train=7 * DAY, delay=7 * DAY, test=7 * DAY, start=datetime(2018, 7, 25, tzinfo=UTC))
    return Model(name=name, features=fraud_features, label=chargebacks, estimator=estimator, split=split)


logistic = model("logistic_regression", make_pipeline(StandardScaler(), LogisticRegression(random_state=0)))
tree = model("decision_tree", DecisionTreeClassifier(max_depth=2, random_state=0))
forest = model("random_forest", RandomForestClassifier(random_state=0))
boosted = model("xgboost", XGBClassifier(tree_method="exact", base_score=0.5, random_state=0, n_jobs=1))

# A false alarm costs a phone call, a missed fraud the amount.
card_policy = Policy(
    name="card",
    actions={"block": 0.9, "review": 0.3},
    costs=CostMatrix(false_positive=5.0, false_negative="amount"),
)

checkout = Endpoint(name="checkout", source=transactions, model=boosted, policy=card_policy)
