"""Definitions of alerts: what cannot be told is refused where it is written."""

from datetime import timedelta

import pytest

from penstock import (
    Alert,
    Apprise,
    Endpoint,
    FeatureService,
    LabelSource,
    Model,
    OnDecision,
    OnMetric,
    Policy,
    PushConfig,
    StreamSource,
    TimeSplit,
    Webhook,
    realtime_feature_view,
)

from penstock import Attribute, RequestSource  # isort: skip
from penstock.app.alert_metrics import is_slow
from penstock.core.errors import DefinitionError
from penstock.definitions.alerts import QUALITY_METRICS, STREAM_METRICS, metrics_of
from penstock.monitoring.alerts import METRICS
from penstock.monitoring.prequential import Quality
from penstock.monitoring.regression import RegressionQuality
from penstock.types import Bool, Field, Float64, String, Timestamp

AMOUNT, HOUR = Field("amount", Float64), timedelta(hours=1)
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("id", String), Field("at", Timestamp), AMOUNT],
    event_id_field="id",
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at")


@realtime_feature_view(sources=[RequestSource([AMOUNT])], features=[Attribute("double", Float64)])
def payment(request):
    return {"double": 2 * request["amount"]}


class Estimator:
    def fit(self): ...
    def predict(self): ...
    def get_params(self): ...


model = Model(
    "model",
    features=FeatureService("service", features=[payment]),
    label=frauds,
    estimator=Estimator(),
    split=TimeSplit(train=HOUR, delay=HOUR, test=HOUR),
)
checkout = Endpoint("checkout", source=payments, model=model, policy=Policy("policy", actions={"block": 0.9}))
hook = Webhook("https://cards.example/ban", secret_env="CARDS_SECRET")
blocked = OnDecision(checkout, action="block")
busy = OnMetric(checkout, "alert_rate", above=0.1)


@pytest.mark.parametrize(
    ("make", "found", "allowed"),
    [
        (lambda: OnDecision(checkout, action="blok"), "'blok'", "approve, block"),
        (lambda: OnDecision(checkout, action=[]), "action", "block"),
        (lambda: OnDecision(model, action="block"), "endpoint", "Endpoint"),
        (lambda: OnDecision(checkout, action="block", where={"county": "DE"}), "'county'", "payment.double"),
        (lambda: OnDecision(checkout, action="block", where={"amount": []}), "'amount'", "a list"),
        (lambda: OnMetric(checkout, "mae", above=1), "'mae'", "average_precision"),
        (lambda: OnMetric(checkout, "alert_rate"), "above is None", "one of them"),
        (lambda: OnMetric(checkout, "alert_rate", above=0.1, below=0.2), "0.1", "one of them"),
        (lambda: OnMetric(checkout, "alert_rate", above=float("nan")), "nan", "finite"),
        (lambda: OnMetric(checkout, "alert_rate", above=1, window=timedelta(0)), "window", "above 0"),
        (lambda: OnMetric(checkout, "alert_rate", above=1, at_least=0), "at_least", "at least 1"),
        (lambda: Webhook("ftp://cards.example", secret_env="S"), "ftp", "https"),
        (lambda: Webhook("https://ann:pw@cards.example", secret_env="S"), "url", "without user"),
        (lambda: Webhook("https://cards.example", secret_env="whsec_abc="), "secret_env", "letters"),
        (lambda: Apprise(url_env="slack://a/b/c"), "url_env", "letters"),
        (lambda: Alert("a", on="block", to=[hook]), "'block'", "OnDecision"),
        (lambda: Alert("a", on=blocked, to=[]), "to is []", "Webhook"),
        (lambda: Alert("a", on=blocked, to=[hook, hook]), "twice", "once"),
        (lambda: Alert("a", on=blocked, to=[hook], include=["card"]), "'card'", "amount"),
        (lambda: Alert("a", on=blocked, to=[hook], group_by=["amount"]), "group_window", "group_window="),
        (lambda: Alert("a", on=busy, to=[hook], include=["amount"]), "include", "decisions"),
        (lambda: Alert("a", on=busy, to=[hook], group_window=HOUR), "group_window", "decisions"),
        (lambda: Alert("a", on=blocked, to=[hook], repeat=HOUR), "repeat", "metrics"),
    ],
)
def test_a_mistake_is_refused_with_what_is_allowed(make, found, allowed):
    with pytest.raises(DefinitionError) as error:
        make()
    assert found in str(error.value)
    assert allowed in str(error.value).partition("; ")[2]


def test_a_secret_in_place_of_its_variable_is_not_repeated():
    with pytest.raises(DefinitionError) as error:
        Webhook("https://cards.example", secret_env="whsec_c2VjcmV0")
    assert "c2VjcmV0" not in str(error.value)


def test_every_metric_that_may_be_named_can_be_made():
    assert set(STREAM_METRICS) == set(METRICS)
    assert set(QUALITY_METRICS["binary"]) <= set(Quality.__annotations__)
    assert set(QUALITY_METRICS["regression"]) <= set(RegressionQuality.__annotations__)
    slow = {name for name in metrics_of(checkout) if is_slow(OnMetric(checkout, name, above=0))}
    assert slow == set(metrics_of(checkout)) - set(METRICS)


def test_receivers_are_named_without_secrets():
    assert Webhook("https://cards.example/ban?token=x", secret_env="S").name == "https://cards.example/ban"
    assert Apprise(url_env="CHAT").name == "apprise:CHAT"
