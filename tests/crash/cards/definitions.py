"""A small project with one of everything that a crash could tear: text keys and values, labels, a realtime view."""

from datetime import timedelta

import numpy as np

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
    TimeWindow,
    realtime_feature_view,
)
from penstock.types import Bool, Field, Float64, String, Timestamp

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
AMOUNT, DEVICE = Field("amount", Float64, optional=True), Field("device", String, optional=True)

card = Entity("card", [Field("card", String)])
shop = Entity("shop", [Field("shop", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String),
        Field("at", Timestamp),
        Field("card", String),
        Field("shop", String, optional=True),
        AMOUNT,
        DEVICE,
    ],
    event_id_field="id",
    allowed_lateness=timedelta(seconds=30),
)
chargebacks = LabelSource("chargebacks", of=payments, label=Field("is_fraud", Bool), known_at="known_at")

spending = StreamFeatureView(
    "spending",
    source=payments,
    entities=[card],
    features=[
        Aggregate(column, function, time_window=window)
        for column, function, window in (
            (AMOUNT, "count", MINUTE),
            (AMOUNT, "sum", MINUTE),
            (AMOUNT, "mean", HOUR),
            (AMOUNT, "stddev_samp", HOUR),
            (AMOUNT, "max", HOUR),
            (DEVICE, "count_distinct", HOUR),
            (Field("at", Timestamp), "time_since_last", HOUR),
        )
    ],
)
risk = StreamFeatureView(
    "risk",
    source=chargebacks,
    entities=[shop],
    features=[
        Aggregate(Field("is_fraud", Bool), "count", time_window=HOUR),
        Aggregate(Field("is_fraud", Bool), "mean", time_window=TimeWindow(HOUR, -MINUTE)),
    ],
)


@realtime_feature_view(
    sources=[RequestSource([AMOUNT, Field("at", Timestamp)]), spending],
    features=[Attribute("ratio", Float64), Attribute("night", Bool)],
)
def moment(request, spending):
    ratio = np.divide(request["amount"], spending["amount_mean_1h_continuous"])
    return {"ratio": ratio, "night": request["at"].astype("int64") // 3_600_000_000 % 24 < 6}


features = FeatureService("features", features=[spending, risk, moment])


class NoEstimator:
    """Nothing is trained here."""

    def fit(self): ...

    def predict(self): ...

    def get_params(self): ...


model = Model(
    "model",
    features=features,
    label=chargebacks,
    estimator=NoEstimator(),
    split=TimeSplit(train=HOUR, delay=HOUR, test=HOUR),
)
checkout = Endpoint(
    "checkout",
    source=payments,
    model=model,
    policy=Policy("policy", actions={"block": 0.9, "review": 0.6}),
)
