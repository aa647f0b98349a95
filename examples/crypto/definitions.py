"""Prices of coins: minute bars, how they moved lately, and a model a fold of the walk forward."""

from datetime import UTC, datetime, timedelta

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock import (
    Aggregate,
    Attribute,
    Endpoint,
    Entity,
    FeatureService,
    FileConfig,
    LabelSource,
    Model,
    Policy,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
    realtime_feature_view,
)
from penstock.types import Field, Float64, Int64, String, Timestamp

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
START = datetime(2026, 3, 2, tzinfo=UTC)
HORIZON = 15 * MINUTE
SYMBOL, CLOSE, VOLUME = Field("symbol", String), Field("close", Float64), Field("volume", Float64)
WINDOWS = (5, 15, 60)

coin = Entity("coin", [SYMBOL])
bars = StreamSource(
    "bars",
    FileConfig("data/bars.ndjson", "ndjson"),
    schema=[Field("id", Int64), SYMBOL, Field("at", Timestamp), CLOSE, VOLUME],
    event_id_field="id",
)
# By how much the price moved in the quarter of an hour after the bar, in hundredths of a percent; known when it is over.
moves = LabelSource(
    "moves",
    of=bars,
    label=Field("move_bp", Float64),
    known_at="known_at",
    stream_config=FileConfig("data/moves.ndjson", "ndjson"),
)

lately = StreamFeatureView(
    "lately",
    source=bars,
    entities=[coin],
    features=[
        *(Aggregate(CLOSE, "mean", time_window=m * MINUTE, name=f"mean_{m}m") for m in WINDOWS),
        *(Aggregate(VOLUME, "mean", time_window=m * MINUTE, name=f"volume_{m}m") for m in WINDOWS),
        Aggregate(CLOSE, "stddev_pop", time_window=60 * MINUTE, name="spread_60m"),
    ],
)


@realtime_feature_view(
    sources=[RequestSource([CLOSE, VOLUME]), lately],
    features=[
        *(Attribute(f"away_{m}m", Float64) for m in WINDOWS),
        *(Attribute(f"busy_{m}m", Float64) for m in WINDOWS),
        Attribute("spread", Float64),
    ],
)
def shape(bar, lately):
    """How far the price is from its means, how busy the market is, how wide prices spread: the same for a coin of any price."""
    found = {f"away_{m}m": 1e4 * np.log(bar["close"] / lately[f"mean_{m}m"]) for m in WINDOWS}
    found |= {f"busy_{m}m": np.log(bar["volume"] / lately[f"volume_{m}m"]) for m in WINDOWS}
    return found | {"spread": 1e4 * lately["spread_60m"] / bar["close"]}


features = FeatureService("bar_features", features=[shape])


def fold(number):
    """Four days to learn, an hour for the last moves to be known, a day to test; each fold a day later."""
    return Model(
        f"fold_{number}",
        features=features,
        label=moves,
        task="regression",
        estimator=make_pipeline(StandardScaler(), Ridge(alpha=100.0)),
        split=TimeSplit(train=4 * DAY, delay=timedelta(hours=1), test=DAY, start=START + (number - 1) * DAY),
    )


fold_1, fold_2, fold_3 = fold(1), fold(2), fold(3)

watch = Endpoint(
    "watch", source=bars, model=fold_3, policy=Policy("side", actions={"rising": 3.0}, default="unclear")
)
