"""Click-through rate: impressions, clicks, hashed ids, click rates as far as known, three models."""

from datetime import timedelta

import numpy as np
from river import linear_model, optim, preprocessing
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from penstock import (
    Aggregate,
    Attribute,
    Endpoint,
    Entity,
    FeatureService,
    FileConfig,
    LabelSource,
    Model,
    Online,
    Policy,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
    realtime_feature_view,
)
from penstock.types import Bool, Field, Float64, Int64, Timestamp

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AD, SITE, USER = Field("ad_id", Int64), Field("site_id", Int64), Field("user_id", Int64)
AT, CLICKED = Field("at", Timestamp), Field("clicked", Bool)
BUCKETS = 64

ad, site, user = Entity("ad", [AD]), Entity("site", [SITE]), Entity("user", [USER])

impressions = StreamSource(
    "impressions",
    FileConfig("data/impressions.ndjson", "ndjson"),
    schema=[Field("id", Int64), AT, AD, SITE, USER],
    event_id_field="id",
)
# Half an hour after an impression it is known whether it was clicked.
clicks = LabelSource(
    "clicks",
    of=impressions,
    label=CLICKED,
    known_at="known_at",
    stream_config=FileConfig("data/clicks.ndjson", "ndjson"),
)


def click_rate(name, entity):
    """How often, and how often of these clicked, as known by now; never the click that is to be predicted."""
    features = [
        Aggregate(CLICKED, function, time_window=3 * DAY, name=function) for function in ("count", "sum")
    ]
    return StreamFeatureView(name, source=clicks, entities=[entity], features=features)


of_ad, of_site, of_user = click_rate("of_ad", ad), click_rate("of_site", site), click_rate("of_user", user)


@realtime_feature_view(
    sources=[of_ad, of_site, of_user],
    features=[Attribute(name, Float64) for name in ("ad", "site", "user")],
)
def rate(of_ad, of_site, of_user):
    """Click rates, drawn to the usual 5 % where little is known."""

    def smoothed(known):
        return (np.nan_to_num(known["sum"]) + 1.0) / (known["count"] + 20.0)

    return {"ad": smoothed(of_ad), "site": smoothed(of_site), "user": smoothed(of_user)}


@realtime_feature_view(
    sources=[RequestSource([AT, AD, SITE, USER])],
    features=[Attribute(f"b{i:02}", Float64) for i in range(BUCKETS)],
)
def hashed(request):
    """Ids have too many values for a column each: each id, and the pair of ad and site, adds 1 or -1 to one of 64 buckets."""
    rows = np.arange(len(request["ad_id"]))
    table = np.zeros((len(rows), BUCKETS))
    pair = request["ad_id"] * 100_003 + request["site_id"]
    for salt, ids in enumerate((request["ad_id"], request["site_id"], request["user_id"], pair), 1):
        mixed = (ids.astype(np.uint64) + np.uint64(salt << 40)) * np.uint64(0x9E3779B97F4A7C15)
        bucket, sign = (mixed >> np.uint64(58)).astype(np.int64), (mixed >> np.uint64(57)) & np.uint64(1)
        np.add.at(table, (rows, bucket), np.where(sign == 1, 1.0, -1.0))
    return {f"b{i:02}": table[:, i] for i in range(BUCKETS)}


@realtime_feature_view(
    sources=[RequestSource([AT])], features=[Attribute("hour_sin", Float64), Attribute("hour_cos", Float64)]
)
def clock(request):
    """The hour as a point on a circle, since 23 and 0 are neighbours."""
    minutes = request["at"].astype("M8[m]").astype(np.int64) % 1440
    angle = minutes * (2 * np.pi / 1440)
    return {"hour_sin": np.sin(angle), "hour_cos": np.cos(angle)}


ctr_features = FeatureService("ctr_features", features=[rate, clock, hashed])
split = TimeSplit(train=4 * DAY, delay=HOUR, test=DAY)

logistic = Model(
    "logistic",
    features=ctr_features,
    label=clicks,
    estimator=make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)),
    split=split,
)
boosted = Model(
    "boosted",
    features=ctr_features,
    label=clicks,
    estimator=XGBClassifier(n_estimators=80, max_depth=3, learning_rate=0.1, n_jobs=1, random_state=0),
    split=split,
)
# Learns half an hour after each impression whether it was clicked, from the first on. The rate is the best on the day before the last.
online = Model(
    "online",
    features=ctr_features,
    label=clicks,
    estimator=preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(5e-4)),
    split=split,
    learning=Online(publish_every=100),
)

serve = Endpoint(
    "serve",
    source=impressions,
    model=boosted,
    policy=Policy("bid", actions={"bid": 0.08}, default="pass_on"),
)
