"""What retraining and guards may say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from penstock import (
    Aggregate,
    Endpoint,
    Entity,
    FeatureService,
    LabelSource,
    Model,
    Online,
    Policy,
    PushConfig,
    Retraining,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
)
from penstock.core.errors import DefinitionError
from penstock.types import Bool, Field, Float64, String, Timestamp

DAY = timedelta(days=1)
AMOUNT = Field("amount", Float64)
card = Entity("card", [Field("card_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("id", String), Field("card_id", String), Field("at", Timestamp), AMOUNT],
    event_id_field="id",
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at")
spending = StreamFeatureView(
    "spending", source=payments, entities=[card], features=[Aggregate(AMOUNT, "sum", time_window=DAY)]
)
service = FeatureService("service", features=[spending])


class Estimator:
    def fit(self): ...
    def predict(self): ...
    def get_params(self): ...


def model(**more):
    given = {"estimator": Estimator(), "split": TimeSplit(train=DAY, delay=DAY, test=DAY)} | more
    return Model("fraud", features=service, label=frauds, **given)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"new_labels": 0}, "new_labels is 0"),
        ({"new_labels": True}, "new_labels is True"),
        ({"min_positives": -1}, "min_positives is -1"),
        ({"schedule": "0 3 * *"}, "'0 3 \\* \\*' has 4 fields"),
        ({"cooldown": -DAY}, "cooldown"),
        ({"to": "Archived"}, "to is 'Archived'"),
        ({"shadow_for": timedelta(0)}, "shadow_for is"),
        ({"shadow_for": DAY, "to": "Staging"}, "shadow_for is"),
        ({"metric_floor": {"recall": 0.5}}, "metric_floor is"),
        ({"metric_floor": {"average_precision": -1}}, "limit of average_precision is -1"),
    ],
)
def test_what_means_nothing_is_refused_with_what_is_allowed(wrong, found):
    with pytest.raises(DefinitionError, match=f"(?s)Retraining.*{found}.*allowed"):
        Retraining(**wrong)


def test_a_model_is_trained_again_only_where_that_gives_another():
    assert model().retraining is None
    assert model(retraining=Retraining()).retraining.new_labels == 500
    fixed = TimeSplit(train=DAY, delay=DAY, test=DAY, start=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(DefinitionError, match="split starts at"):
        model(retraining=Retraining(), split=fixed)
    with pytest.raises(DefinitionError, match="learning and retraining"):
        model(retraining=Retraining(), learning=Online())
    with pytest.raises(DefinitionError, match="retraining is 500"):
        model(retraining=500)


def test_an_endpoint_has_a_guard_unless_it_says_none():
    given = {"source": payments, "model": model(), "policy": Policy("card", actions={"block": 0.9})}
    assert Endpoint("checkout", **given).guard.events == 10_000
    assert Endpoint("checkout", **given, guard=None).guard is None
    with pytest.raises(DefinitionError, match="guard is True"):
        Endpoint("checkout", **given, guard=True)
