"""A small project that takes the hazard corpus: every type, required and optional, one feature, one endpoint."""

from datetime import timedelta

from penstock import (
    Aggregate,
    Endpoint,
    Entity,
    FeatureService,
    LabelSource,
    Model,
    Policy,
    PushConfig,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
)
from penstock.types import Bool, Field, Float32, Float64, Int32, Int64, String, Timestamp

HOUR = timedelta(hours=1)

card = Entity(name="card", join_keys=[Field("card", String)])
payments = StreamSource(
    name="payments",
    stream_config=PushConfig(),
    schema=[
        Field("id", String),
        Field("note", String, optional=True),
        Field("card", String),
        Field("at", Timestamp),
        Field("amount", Float64),
        Field("count", Int64, optional=True),
        Field("small", Int32, optional=True),
        Field("ratio", Float32, optional=True),
        Field("abroad", Bool, optional=True),
        Field("opened", Timestamp, optional=True),
    ],
    event_id_field="id",
    timestamp_field="at",
)
chargebacks = LabelSource(name="chargebacks", of=payments, label=Field("is_fraud", Bool), known_at="known_at")
spending = StreamFeatureView(
    "spending",
    source=payments,
    entities=[card],
    features=[Aggregate(Field("amount", Float64), "sum", time_window=HOUR)],
)
features = FeatureService(name="features", features=[spending])


class NoEstimator:
    """Nothing is trained here."""

    def fit(self): ...

    def predict(self): ...

    def get_params(self): ...


model = Model(
    name="model",
    features=features,
    label=chargebacks,
    estimator=NoEstimator(),
    split=TimeSplit(train=HOUR, delay=HOUR, test=HOUR),
)
checkout = Endpoint(
    name="checkout", source=payments, model=model, policy=Policy(name="policy", actions={"block": 0.9})
)
