"""What a plan refuses, and which changes of a definition change its fingerprints."""

from datetime import timedelta

import pytest

from penstock import (
    Aggregate,
    Endpoint,
    Entity,
    FeatureService,
    LabelSource,
    Model,
    Policy,
    PushConfig,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
)
from penstock.core.errors import PlanError
from penstock.plan.compile import compile_plan
from penstock.types import Bool, Field, Float64, String, Timestamp

HOUR = timedelta(hours=1)
AMOUNT = Field("amount", Float64)
USER = Entity("user", join_keys=[Field("user_id", String)])


class Estimator:
    def fit(self): ...
    def predict(self): ...
    def get_params(self): ...


def stream(name="payments", *, amount=AMOUNT, extra=(), **options):
    schema = [Field("id", String), Field("user_id", String), Field("at", Timestamp), amount, *extra]
    return StreamSource(
        name, PushConfig(), schema=schema, event_id_field="id", **{"timestamp_field": "at"} | options
    )


def totals(source, **options):
    return StreamFeatureView(
        "totals",
        source=source,
        entities=[USER],
        features=[Aggregate(AMOUNT, "sum", time_window=HOUR)],
        **options,
    )


def endpoint(name, service, source):
    labels = LabelSource(f"{name}_labels", of=source, label=Field("bad", Bool), known_at="known_at")
    split = TimeSplit(train=HOUR, delay=HOUR, test=HOUR)
    model = Model(f"{name}_model", features=service, label=labels, estimator=Estimator(), split=split)
    return Endpoint(name, source=source, model=model, policy=Policy("policy", actions={"block": 0.5}))


def test_a_service_under_endpoints_on_two_streams_is_refused():
    payments, refunds = stream(), stream("refunds")
    service = FeatureService("features", features=[totals(payments)])
    endpoints = [endpoint("pay", service, payments), endpoint("refund", service, refunds)]
    with pytest.raises(
        PlanError, match=r"'features'.*'payments' and of 'refunds'; allowed is one stream.*Make"
    ):
        compile_plan([], endpoints)


def test_a_service_listed_for_another_stream_than_its_endpoints_is_refused():
    payments, refunds = stream(), stream("refunds")
    service = FeatureService("features", features=[totals(payments)])
    with pytest.raises(PlanError, match="allowed is one stream"):
        compile_plan([(service, refunds)], [endpoint("pay", service, payments)])


def test_two_services_of_one_name_are_refused():
    payments = stream()
    view = totals(payments)
    one, other = (FeatureService("features", features=[view]) for _ in range(2))
    with pytest.raises(PlanError, match=r"'features': two different services.*Rename"):
        compile_plan([(one, payments)], [endpoint("pay", other, payments)])


def test_every_endpoint_finds_the_rows_of_its_service_on_its_own_stream():
    payments, refunds = stream(), stream("refunds")
    view = totals(payments)
    services = {s.name: FeatureService(s.name, features=[view]) for s in (payments, refunds)}
    endpoints = [endpoint(f"on_{s.name}", services[s.name], s) for s in (payments, refunds)]
    plan = compile_plan([(services[s.name], s) for s in (payments, refunds)], endpoints)
    assert all(plan.services[e.service].source == e.source for e in plan.endpoints.values())
