"""Views whose features are made beside the kernel: classes of one's own, sketches, secondary keys; functions x windows."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from penstock import (
    Aggregate,
    Entity,
    FeatureService,
    LifetimeWindow,
    PushConfig,
    StreamFeatureView,
    StreamSource,
    TimeWindow,
    TimeWindowSeries,
    UserAggregation,
    stream_feature_view,
)
from penstock.aggregation_functions import approx_count_distinct, approx_percentile, lag
from penstock.types import Array, Bool, Field, Float64, Int64, String, Timestamp

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
AMOUNT, KIND = Field("amount", Float64), Field("kind", Int64, optional=True)
SHOP, DEVICE = Field("shop", Int64), Field("device", String)
card = Entity("card", [Field("card_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String),
        Field("time", Timestamp),
        Field("card_id", String, optional=True),
        Field("payee_id", String, optional=True),
        Field("shop", Int64, optional=True),
        Field("device", String, optional=True),
        KIND,
        Field("abroad", Bool, optional=True),
        Field("amount", Float64, optional=True),
    ],
    event_id_field="id",
    allowed_lateness=timedelta(seconds=10),
)


class Rounding(UserAggregation):
    """A sum whose bits tell in which order it was made, and which rows: nothing is promised."""

    name, takes, gives = "rounding", (Float64,), Float64

    def init(self):
        return 0.1

    def add(self, state, value):
        return state * 0.7 + value / 3

    def value(self, state):
        return state


class Whole(UserAggregation):
    """Counts and a sum of whole numbers, which can be taken back."""

    name, takes, gives = "whole", (Int64, Float64), Int64

    def init(self):
        return [0, 0]

    def add(self, state, value):
        state[0] += 1
        state[1] += int(value) % 1000
        return state

    def remove(self, state, value):
        state[0] -= 1
        state[1] -= int(value) % 1000
        return state

    def value(self, state):
        return state[0] * 1_000_000 + state[1] if state[0] else None


class Joined(UserAggregation):
    """Texts in a row, put together from parts."""

    name, takes, gives = "joined", (String, Bool, Timestamp, Int64), String

    def init(self):
        return ()

    def add(self, state, value):
        return (*state, str(value)[-8:])

    def merge(self, left, right):
        return left + right

    def value(self, state):
        return "/".join(state) if state else None


class Frequent(UserAggregation):
    """The two most frequent values: a list."""

    name, takes, gives = "frequent", (String, Int64, Float64), Array(String)

    def init(self):
        return Counter()

    def add(self, state, value):
        state[repr(value)] += 1
        return state

    def merge(self, left, right):
        return left + right

    def value(self, state):
        return sorted(state, key=lambda one: (-state[one], one))[:2]


class Picky(UserAggregation):
    """Fails on windows of more than two rows."""

    name, takes, gives = "picky", (Float64,), Float64

    def init(self):
        return []

    def add(self, state, value):
        return [*state, value]

    def value(self, state):
        return max(state) if len(state) < 3 else state[len(state)]


NUMBERS = (Rounding(), Whole(), approx_count_distinct(), approx_percentile(0.5), Picky())
WINDOWS = (
    (MINUTE, {}),
    (TimeWindow(HOUR, -MINUTE), {}),
    (MINUTE, {"include_current": False, "where": "abroad"}),
    (HOUR, {"aggregation_interval": MINUTE}),
    (HOUR, {}),
)
SERIES = TimeWindowSeries(timedelta(minutes=-5), MINUTE, step_size=timedelta(seconds=30))
folds = StreamFeatureView(
    "folds",
    source=payments,
    entities=[card],
    features=[
        Aggregate(AMOUNT, function, time_window=window, **options)
        for function in NUMBERS
        for window, options in WINDOWS
    ]
    + [
        Aggregate(KIND, Whole(), time_window=HOUR),
        Aggregate(DEVICE, approx_count_distinct(4), time_window=HOUR),
    ]
    + [Aggregate(AMOUNT, "sum", time_window=MINUTE), Aggregate(DEVICE, "last", time_window=MINUTE)],
)
plain = StreamFeatureView(  # windows that the core of the kernel knows
    "plain",
    source=payments,
    entities=[card],
    max_keys=2,
    features=[
        Aggregate(AMOUNT, function, time_window=window) for function in NUMBERS for window in (MINUTE, HOUR)
    ],
)
parts = StreamFeatureView(
    "parts",
    source=payments,
    entities=[card],
    features=[
        Aggregate(column, function, time_window=window, **options)
        for function in (Joined(), Frequent())
        for column in (DEVICE, KIND)
        for window, options in WINDOWS
    ]
    + [
        Aggregate(Field(name, t), Joined(), time_window=HOUR)
        for name, t in (("abroad", Bool), ("time", Timestamp))
    ]
    + [Aggregate(AMOUNT, function, time_window=SERIES) for function in (Rounding(), approx_percentile(0.9))],
)
by_shop = StreamFeatureView(
    "by_shop",
    source=payments,
    entities=[card],
    aggregation_secondary_key="shop",
    features=[
        Aggregate(AMOUNT, function, time_window=window, **options)
        for function in ("sum", "count", "median", "time_since_last", lag(1), Rounding())
        for window, options in WINDOWS
    ]
    + [
        Aggregate(DEVICE, "last", time_window=HOUR),
        Aggregate(Field("abroad", Bool), "last", time_window=HOUR),
    ],
)
by_device = StreamFeatureView(
    "by_device",
    source=payments,
    entities=[card],
    aggregation_secondary_key="device",
    max_keys=3,
    features=[
        Aggregate(AMOUNT, function, time_window=window)
        for function in ("sum", "max", "last", "count_distinct")
        for window in (LifetimeWindow(), MINUTE)
    ]
    + [Aggregate(DEVICE, Joined(), time_window=HOUR)],
)


@stream_feature_view(
    source=payments,
    entities=[card],
    mode="python",
    aggregation_secondary_key=Field("large", Bool),
    features=[Aggregate(AMOUNT, "sum", time_window=MINUTE), Aggregate(AMOUNT, "mean", time_window=HOUR)],
)
def by_size(row):
    if row["kind"] == 1:
        return None
    return {**row, "large": None if row["amount"] is None else row["amount"] > 10}


numbers = FeatureService(
    "numbers",
    features=[
        folds[[name for name, dtype in folds.feature_types.items() if dtype is not String]],
        plain,
        plain[["amount_rounding_1h_continuous"]]
        .with_name("payee")
        .with_join_key_map({"card_id": "payee_id"}),
    ],
)
everything = FeatureService(
    "everything",
    features=[
        *numbers.features,
        folds.with_name("texts")[["device_last_1m_continuous"]],
        parts,
        by_shop,
        by_device,
        by_size,
        by_shop[["shop_keys_1h"]].with_name("payees").with_join_key_map({"card_id": "payee_id"}),
    ],
)
