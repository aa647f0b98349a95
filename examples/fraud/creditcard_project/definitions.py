"""Kaggle's creditcard.csv: it names no cards, so there is nothing to aggregate; its components are the features."""

from datetime import UTC, datetime, timedelta

import numpy as np
from xgboost import XGBClassifier

from penstock import (
    Attribute,
    CostMatrix,
    Endpoint,
    FeatureService,
    LabelSource,
    Model,
    Policy,
    PushConfig,
    RequestSource,
    StreamSource,
    TimeSplit,
    realtime_feature_view,
)
from penstock.types import Bool, Field, Float64, Int64, Timestamp

HOUR = timedelta(hours=1)
FIRST = datetime(2013, 9, 1, tzinfo=UTC)

values = [Field(f"v{number}", Float64) for number in range(1, 29)] + [Field("amount", Float64)]

payments = StreamSource(
    name="payments",
    stream_config=PushConfig(),
    schema=[Field("transaction_id", Int64), Field("timestamp", Timestamp), *values],
    event_id_field="transaction_id",
)
frauds = LabelSource(name="frauds", of=payments, label=Field("is_fraud", Bool), known_at="reported_at")


@realtime_feature_view(
    sources=[RequestSource(schema=values)],
    features=[*(Attribute(field.name, Float64) for field in values), Attribute("log_amount", Float64)],
)
def components(request):
    """The payment as it is, and the amount's order of magnitude."""
    return {**request, "log_amount": np.log1p(request["amount"])}


component_features = FeatureService(name="component_features", features=[components])

model = Model(
    name="creditcard",
    features=component_features,
    label=frauds,
    estimator=XGBClassifier(n_estimators=100, max_depth=4, learning_rate=0.2, random_state=0, n_jobs=1),
    split=TimeSplit(train=20 * HOUR, delay=4 * HOUR, test=12 * HOUR, start=FIRST),
)

policy = Policy(
    name="card",
    actions={"block": 0.9, "review": 0.3},
    costs=CostMatrix(false_positive=5.0, false_negative="amount"),
)

creditcard = Endpoint(name="creditcard", source=payments, model=model, policy=policy)
