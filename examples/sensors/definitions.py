"""Machines: how each reading stands to the machine's own day, and two detectors that nobody tells what is wrong."""

from datetime import timedelta

import numpy as np
from river.anomaly import HalfSpaceTrees
from river.preprocessing import MinMaxScaler

from penstock import (
    Aggregate,
    AlertBudget,
    Arm,
    Attribute,
    Endpoint,
    Entity,
    FeatureService,
    FileConfig,
    LabelSource,
    Model,
    Monitor,
    NearestNeighbours,
    Online,
    Policy,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
    realtime_feature_view,
)
from penstock.aggregation_functions import lag
from penstock.types import Bool, Field, Float64, Int64, Timestamp

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MACHINE = Field("machine_id", Int64)
SENSORS = [Field(name, Float64) for name in ("load", "temperature", "vibration", "current")]

machine = Entity("machine", [MACHINE])
readings = StreamSource(
    "readings",
    FileConfig("data/readings.ndjson", "ndjson"),
    schema=[Field("id", Int64), Field("at", Timestamp), MACHINE, *SENSORS],
    event_id_field="id",
)
# What the mechanic wrote down two days later. The detectors never see it; they are judged by it.
faults = LabelSource(
    "faults",
    of=readings,
    label=Field("faulty", Bool),
    known_at="known_at",
    stream_config=FileConfig("data/faults.ndjson", "ndjson"),
)

day = StreamFeatureView(
    "day",
    source=readings,
    entities=[machine],
    features=[
        Aggregate(sensor, function, time_window=DAY, name=f"{sensor.name}_{name}")
        for sensor in SENSORS
        for function, name in (("mean", "mean"), ("stddev_pop", "spread"))
    ],
)
hour = StreamFeatureView(
    "hour",
    source=readings,
    entities=[machine],
    features=[
        Aggregate(sensor, function, time_window=HOUR, name=f"{sensor.name}_{name}")
        for sensor in SENSORS
        for function, name in (("mean", "mean"), ("stddev_pop", "spread"), (lag(1), "before"))
    ],
)


@realtime_feature_view(
    sources=[RequestSource(SENSORS), day, hour],
    features=[
        Attribute(f"{sensor.name}_{what}", Float64)
        for sensor in SENSORS
        for what in ("level", "step", "mean", "unrest")
    ],
)
def standing(request, day, hour):
    """A reading, its step, its last hour's mean and unrest, in spreads of the machine's own day. A stuck sensor has no unrest."""
    out = {}
    for name, now in request.items():
        mean = day[f"{name}_mean"]
        spread = np.maximum(np.nan_to_num(day[f"{name}_spread"]), 1e-6)
        out[f"{name}_level"] = (now - mean) / spread
        out[f"{name}_step"] = (now - hour[f"{name}_before"]) / spread
        out[f"{name}_mean"] = (hour[f"{name}_mean"] - mean) / spread
        out[f"{name}_unrest"] = hour[f"{name}_spread"] / spread
    return out


sensor_features = FeatureService("sensor_features", features=[standing])
weeks = TimeSplit(train=7 * DAY, delay=timedelta(0), test=21 * DAY)


def detector(name, estimator):
    """A model that learns every reading after it was scored."""
    return Model(
        name,
        task="anomaly",
        features=sensor_features,
        label=faults,  # to be judged by; leave it out where nobody writes anything down
        estimator=estimator,
        split=weeks,
        learning=Online(batch=100, publish_every=200),
    )


neighbours = detector("neighbours", NearestNeighbours())
half_spaces = HalfSpaceTrees(n_trees=25, height=6, window_size=4_000, seed=1)
trees = detector("trees", MinMaxScaler() | half_spaces)

watch = Endpoint(
    "watch",
    source=readings,
    model=neighbours,
    arms=[Arm("neighbours"), Arm("trees", model=trees, shadow=True)],
    policy=Policy("mechanic", actions={"look": AlertBudget(24)}, default="go_on"),
)
daily = Monitor("daily", endpoint=watch, windows=[DAY, 7 * DAY], delay=2 * DAY)
