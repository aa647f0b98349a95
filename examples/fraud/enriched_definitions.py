"""More than the published features: the same payments and labels, looked at as an analyst would. Beside `definitions`.

Three questions that the 15 published features leave open:

- How far is this payment from what the card usually pays? Deviation from its own past in standard deviations, in multiples of its
  median and of its largest payment, and how much busier the last day was than the last month.
- Since when is a terminal known to be compromised, and has it been genuine again since? Frauds by small amounts only: large ones
  are found by the amount, and say nothing about the terminal.
- How busy is the terminal?
"""

from datetime import timedelta

import numpy as np

from penstock import (
    Aggregate,
    Attribute,
    FeatureService,
    RequestSource,
    StreamFeatureView,
    realtime_feature_view,
    stream_feature_view,
)
from penstock.types import Bool, Field, Float64, Timestamp

from .definitions import (
    DAY,
    amount,
    chargebacks,
    customer,
    known_risk,
    payment,
    spending,
    terminal,
    transactions,
)

LARGE = 220.0
"""Payments above are frauds by their amount alone."""
DAY_US = 86_400_000_000
LONGEST = 60 * DAY

habits = StreamFeatureView(
    name="habits",
    source=transactions,
    entities=[customer],
    description="What the card paid before this payment.",
    features=[
        *(
            Aggregate(
                amount, function, time_window=days * DAY, include_current=False, name=f"{function}_{days}d"
            )
            for days in (14, 30, 60)
            for function in ("mean", "stddev_samp", "max")
        ),
        Aggregate(amount, "median", time_window=30 * DAY, include_current=False, name="median_30d"),
        Aggregate(amount, "count", time_window=DAY, name="count_1d"),
        Aggregate(amount, "count", time_window=30 * DAY, name="count_30d"),
        Aggregate(amount, "time_since_last", time_window=30 * DAY, name="since_last"),
    ],
)

traffic = StreamFeatureView(
    name="traffic",
    source=transactions,
    entities=[terminal],
    description="How busy the terminal is.",
    features=[
        Aggregate(amount, function, time_window=days * DAY, name=f"{function}_{days}d")
        for days in (1, 7, 30)
        for function in ("count", "mean")
    ],
)

small_fraud, paid_at = Field("small_fraud", Bool), Field("paid_at", Timestamp)


@stream_feature_view(
    source=chargebacks,
    entities=[terminal],
    features=[
        *(
            Aggregate(small_fraud, function, time_window=days * DAY, name=f"{function}_{days}d")
            for days in (1, 3, 7, 14, 21, 28)
            for function in ("sum", "mean")
        ),
        Aggregate(small_fraud, "last", time_window=LONGEST, name="newest"),
        Aggregate(paid_at, "min", time_window=21 * DAY, where="small_fraud", name="first_21d"),
        Aggregate(paid_at, "min", time_window=28 * DAY, where="small_fraud", name="first_28d"),
        Aggregate(paid_at, "max", time_window=LONGEST, where="small_fraud", name="last_fraud"),
        Aggregate(paid_at, "max", time_window=LONGEST, where="genuine", name="last_genuine"),
    ],
)
def compromise(labels):
    """What is known about the terminal's payments, from when it is known."""
    fraud = labels["is_fraud"].astype(bool)
    return {
        "terminal_id": labels["terminal_id"],
        "reported_at": labels["reported_at"],
        "paid_at": labels["timestamp"],
        "small_fraud": fraud & (labels["amount"] <= LARGE),
        "genuine": ~fraud,
    }


@realtime_feature_view(
    sources=[RequestSource(schema=[amount, Field("timestamp", Timestamp)]), habits],
    features=[
        Attribute(name, Float64)
        for name in ("deviations", "of_mean", "of_median", "of_max", "count_1d_of_30d", "hours_since_last")
    ],
)
def unusual(request, habits):
    """How far the payment is from the card's own past."""
    paid = request["amount"]
    return {
        "deviations": (paid - habits["mean_30d"]) / habits["stddev_samp_30d"],
        "of_mean": paid / habits["mean_30d"],
        "of_median": paid / habits["median_30d"],
        "of_max": paid / habits["max_30d"],
        "count_1d_of_30d": habits["count_1d"] / habits["count_30d"],
        "hours_since_last": habits["since_last"] / 3600,
    }


@realtime_feature_view(
    sources=[RequestSource(schema=[Field("timestamp", Timestamp)]), compromise],
    features=[
        Attribute(f"days_since_{name}", Float64)
        for name in ("first_21d", "first_28d", "last_fraud", "last_genuine")
    ],
)
def days_since(request, compromise):
    """Days since the terminal's known frauds began and ended, and since it was last known to be genuine."""
    now = request["timestamp"].astype(np.int64)
    return {
        f"days_since_{name}": (now - compromise[name]) / DAY_US
        for name in ("first_21d", "first_28d", "last_fraud", "last_genuine")
    }


shares = [name for name in compromise.feature_types if name.startswith(("sum_", "mean_"))]
enriched_features = FeatureService(
    name="enriched_features",
    features=[
        payment,
        spending,
        known_risk,
        habits,
        traffic,
        compromise[[*shares, "newest"]],
        unusual,
        days_since,
    ],
)
REACH = LONGEST + timedelta(days=7)
"""How far back the features of a day look: the longest window, and the labels' delay."""
