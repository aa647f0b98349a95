"""More than the published features: the same payments and labels, looked at as an analyst would. Beside `definitions`.

The stream is a richer one: each payment also has the place and the trade of its terminal, and a table tells who the customers
are (`enrichment.py` makes both). Questions that the 15 published features leave open:

- How far is this payment from what the card usually pays? Deviation from its own past in standard deviations, in multiples of its
  median and of its largest payment, and how much busier the last day was than the last month.
- Since when is a terminal known to be compromised, and has it been genuine again since? Frauds by small amounts only: large ones
  are found by the amount, and say nothing about the terminal.
- How busy is the terminal?
- Could the card have come here since its last payment? Distance, speed, and whether that is impossible.
- Who pays: how far from home, how old, customer for how long?
- How often is this trade defrauded, as far as known by now?
"""

from datetime import timedelta
from typing import Any

import numpy as np

from penstock import (
    Aggregate,
    Attribute,
    BatchFeatureView,
    BatchSource,
    Entity,
    FeatureService,
    FileConfig,
    LabelSource,
    PushConfig,
    RealtimeFeatureView,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    realtime_feature_view,
    stream_feature_view,
)
from penstock.functions import haversine_km
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

from . import definitions as published
from .definitions import DAY, amount, customer, is_fraud, payment, terminal

LARGE = 220.0
"""Payments above are frauds by their amount alone."""
FASTEST_KMH = 900.0
"""An airliner's speed. A card that is faster was in two places."""
DAY_US = 86_400_000_000
YEAR_DAYS = 365.25
LONGEST = 60 * DAY

latitude, longitude = Field("latitude", Float64), Field("longitude", Float64)
category = Entity(name="category", join_keys=[Field("merchant_category", String)])

transactions = StreamSource(
    name="located_transactions",
    stream_config=PushConfig(),
    schema=[*published.transactions.schema, *category.join_keys, latitude, longitude],
    event_id_field="transaction_id",
)
chargebacks = LabelSource(name="located_chargebacks", of=transactions, label=is_fraud, known_at="reported_at")
customers = BatchSource(
    name="customers",
    batch_config=FileConfig("data/customers.parquet", "parquet"),
    schema=[
        Field("customer_id", Int64),
        Field("valid_from", Timestamp),
        Field("born", Timestamp),
        Field("opened", Timestamp),
        Field("home_latitude", Float64),
        Field("home_longitude", Float64),
    ],
    timestamp_field="valid_from",
    description="A row counts until the customer's next one, so that nothing needs to read when it ends.",
)

# The published features, of this stream.
spending = StreamFeatureView(
    "spending", source=transactions, entities=[customer], features=published.spending.features
)
terminal_risk = StreamFeatureView(
    "terminal_risk", source=chargebacks, entities=[terminal], features=published.terminal_risk.features
)
known_risk = RealtimeFeatureView(
    "known_risk",
    sources=[terminal_risk],
    features=published.known_risk.features,
    function=published.known_risk.function,
)

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


whereabouts = StreamFeatureView(
    name="whereabouts",
    source=transactions,
    entities=[customer],
    description="Where and when the card paid before this payment.",
    features=[
        Aggregate(latitude, "last", time_window=30 * DAY, include_current=False, name="latitude"),
        Aggregate(longitude, "last", time_window=30 * DAY, include_current=False, name="longitude"),
        Aggregate(latitude, "time_since_last", time_window=30 * DAY, name="seconds"),
    ],
)
here = RequestSource(schema=[latitude, longitude, Field("timestamp", Timestamp)])


@realtime_feature_view(
    sources=[here, whereabouts],
    features=[
        Attribute("distance_km", Float64),
        Attribute("speed_kmh", Float64),
        Attribute("is_impossible", Bool),
    ],
)
def travel(here, last):
    """How far the card has come since its last payment, and how fast it must have been."""
    distance = haversine_km(here["latitude"], here["longitude"], last["latitude"], last["longitude"])
    speed = distance / (last["seconds"] / 3600)
    return {"distance_km": distance, "speed_kmh": speed, "is_impossible": speed > FASTEST_KMH}


profile = BatchFeatureView(
    "profile",
    sources=[customers],
    entities=[customer],
    description="Who the customer is: the row that is valid at the time of the payment.",
    features=[
        Attribute("born", Timestamp),
        Attribute("opened", Timestamp),
        Attribute("home_latitude", Float64),
        Attribute("home_longitude", Float64),
    ],
)


@realtime_feature_view(
    sources=[here, profile],
    features=[Attribute(name, Float64) for name in ("km_from_home", "age_years", "account_days")],
)
def person(here, profile):
    """Who pays, and how far from home."""
    now = here["timestamp"].astype(np.int64)
    home = profile["home_latitude"], profile["home_longitude"]
    return {
        "km_from_home": haversine_km(here["latitude"], here["longitude"], *home),
        "age_years": (now - profile["born"]) / (YEAR_DAYS * DAY_US),
        "account_days": (now - profile["opened"]) / DAY_US,
    }


category_risk = StreamFeatureView(
    name="category_risk",
    source=chargebacks,
    entities=[category],
    description="The trade's share of frauds; a fraud counts from the moment it was reported.",
    features=[Aggregate(is_fraud, "mean", time_window=days * DAY, name=f"share_{days}d") for days in (7, 30)],
)

shares = [name for name in compromise.feature_types if name.startswith(("sum_", "mean_"))]
GROUPS: dict[str, list[Any]] = {
    "published": [payment, spending, known_risk],
    "habits": [habits, unusual],
    "terminal traffic": [traffic],
    "terminal compromise": [compromise[[*shares, "newest"]], days_since],
    "travel": [travel],
    "customer profile": [person],
    "category risk": [category_risk],
}
"""The features by the question that they answer."""
enriched_features = FeatureService(
    name="enriched_features", features=[view for views in GROUPS.values() for view in views]
)
REACH = LONGEST + timedelta(days=7)
"""How far back the features of a day look: the longest window, and the labels' delay."""
