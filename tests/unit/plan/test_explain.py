"""What `penstock explain` prints, compared with files that people have read. UPDATE_GOLDEN=1 writes them anew."""

import json
import os
import re
from datetime import timedelta
from pathlib import Path

import pytest

from penstock import (
    Aggregate,
    Attribute,
    BatchFeatureView,
    BatchSource,
    Endpoint,
    Entity,
    FeatureService,
    FileConfig,
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
    stream_feature_view,
)
from penstock.core.errors import NotFoundError
from penstock.plan.compile import compile_plan
from penstock.plan.describe import describe
from penstock.plan.explain import WIDTH, explain
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
DAY = timedelta(days=1)


class Estimator:
    def fit(self): ...
    def predict(self): ...
    def get_params(self): ...


def flagship():
    card = Entity("card", join_keys=[Field("card_id", String)])
    shop = Entity("shop", join_keys=[Field("shop_id", Int64)])
    amount = Field("amount", Float64)
    payments = StreamSource(
        "payments",
        PushConfig(),
        schema=[
            Field("payment_id", String),
            Field("card_id", String),
            Field("shop_id", Int64),
            Field("at", Timestamp),
            amount,
            Field("country", String, optional=True),
        ],
        event_id_field="payment_id",
        allowed_lateness=timedelta(minutes=90),
    )
    frauds = LabelSource("frauds", of=payments, label=Field("is_fraud", Bool), known_at="reported_at")

    @stream_feature_view(
        source=payments,
        entities=[card],
        features=[
            Aggregate(amount, "sum", time_window=DAY, where="large"),
            Aggregate(amount, "mean", time_window=TimeWindow(7 * DAY, offset=-DAY)),
            Aggregate(amount, "max", time_window=30 * DAY),
        ],
    )
    def spending(rows):
        return {
            "card_id": rows["card_id"],
            "at": rows["at"],
            "amount": rows["amount"],
            "large": rows["amount"] > 100,
        }

    risk = StreamFeatureView(
        "risk",
        source=frauds,
        entities=[shop],
        features=[Aggregate(Field("is_fraud", Bool), "mean", time_window=DAY)],
    )
    used = spending[[name for name in spending.feature_types if "max" not in name]]

    @realtime_feature_view(sources=[RequestSource([amount]), used], features=[Attribute("ratio", Float64)])
    def ratio(request, spent):
        return {"ratio": request["amount"] / spent[next(iter(spent))]}

    service = FeatureService("fraud_features", features=[ratio, used, risk])
    split = TimeSplit(train=DAY, delay=DAY, test=DAY)
    model = Model("fraud", features=service, label=frauds, estimator=Estimator(), split=split)
    policy = Policy("card_policy", actions={"block": 0.9, "review": 0.5})
    return compile_plan(
        [(service, payments)], [Endpoint("checkout", source=payments, model=model, policy=policy)]
    )


@pytest.fixture(scope="module")
def plan():
    return flagship()


def masked(text):
    """Without fingerprints, which hold the form of Python's syntax trees and so differ between its versions."""
    return re.sub(r"\b[0-9a-f]{16}\b", "<fingerprint>", text)


def check(name, text):
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


def test_text(plan):
    check("explain.txt", masked("\n".join(explain(plan))) + "\n")


def test_json(plan):
    check("explain.json", masked(json.dumps(describe(plan), indent=2, ensure_ascii=False)) + "\n")


def test_lines_fit_the_terminal(plan):
    assert max(len(line) for line in explain(plan)) <= WIDTH


@pytest.mark.parametrize("name", ["fraud_features", "checkout", "fraud"])
def test_a_name_brings_all_that_it_needs(plan, name):
    found = describe(plan, name)
    assert [s["name"] for s in found["services"]] == ["fraud_features"]
    assert [v["name"] for v in found["views"]] == ["spending", "risk"]


def test_a_view_comes_with_its_source_alone(plan):
    found = describe(plan, "risk")
    assert [v["name"] for v in found["views"]] == ["risk"]
    assert [s["name"] for s in found["sources"]] == ["frauds"]
    assert found["services"] == found["endpoints"] == []


def test_an_unknown_name_lists_what_there_is(plan):
    with pytest.raises(
        NotFoundError, match=r"nothing named 'fruad'.*services fraud_features.*endpoints checkout"
    ):
        describe(plan, "fruad")


def test_pruned_features_are_named(plan):
    assert any("max" in name for name in describe(plan, "spending")["views"][0]["pruned"])


def test_batch_rows_and_profiles_are_told_from_events():
    users = BatchSource(
        "users",
        FileConfig("users.csv", "csv", data_delay=timedelta(hours=6)),
        schema=[Field("card_id", String), Field("changed", Timestamp), Field("age", Int64)],
    )
    profile = BatchFeatureView(
        "profile",
        sources=[users],
        entities=[Entity("card", [users.schema[0]])],
        features=[Attribute("age", Int64)],
    )
    stream = StreamSource("stream", PushConfig(), schema=[users.schema[0], Field("time", Timestamp)])
    text = "\n".join(explain(compile_plan([(FeatureService("service", features=[profile]), stream)])))
    for line in (
        "users (batch rows)",
        "digest of the row",
        "6h after its timestamp",
        "latest  up to t  Int64",
    ):
        assert line in text
