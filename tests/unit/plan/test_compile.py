"""What a plan refuses, and which changes of a definition change its fingerprints."""

from datetime import timedelta

import pytest

from penstock import (
    Aggregate,
    Attribute,
    Endpoint,
    Entity,
    FeatureService,
    LabelSource,
    Model,
    Policy,
    PushConfig,
    RealtimeFeatureView,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
)
from penstock.core.errors import PlanError
from penstock.plan.compile import compile_plan
from penstock.types import Bool, Field, Float32, Float64, Int64, String, Timestamp

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


def fingerprints(source, *references, service_source=None):
    service = FeatureService("features", features=list(references))
    plan = compile_plan([(service, service_source or source)])
    return plan.fingerprint, plan.services["features"].fingerprint


def rescaled(rows):
    return {"user_id": rows["user_id"], "at": rows["at"], "amount": rows["amount"] + 0.0}


def computed(**options):
    source = stream(**options)
    return fingerprints(source, totals(source, function=rescaled))


@pytest.mark.parametrize("amount", [Field("amount", Float32), Field("amount", Int64, optional=True)])
def test_the_type_of_a_column_that_a_function_reads_is_part_of_both_fingerprints(amount):
    assert all(a != b for a, b in zip(computed(), computed(amount=amount), strict=True))


def test_a_column_that_nobody_reads_leaves_the_service_as_it_is():
    assert computed()[1] == computed(extra=[Field("note", String)])[1]


def test_how_far_in_the_future_events_may_lie_changes_no_fingerprint():
    assert computed() == computed(max_future_skew=2 * HOUR)


def test_lateness_changes_both_fingerprints():
    assert all(a != b for a, b in zip(computed(), computed(allowed_lateness=2 * HOUR), strict=True))


def test_whether_an_event_sees_itself_is_part_of_the_service():
    payments, copy = stream(), stream("copies")
    view = totals(payments)
    own = compile_plan([(FeatureService("features", features=[view]), payments)]).services["features"]
    read = compile_plan([(FeatureService("features", features=[view]), copy)]).services["features"]
    assert (own.lookups[0].own, read.lookups[0].own) == (True, False)
    assert own.fingerprint != read.fingerprint


def test_the_labelled_stream_is_part_of_the_service():
    def of(name):
        source = stream(name)
        labels = LabelSource("labels", of=source, label=Field("bad", Float64), known_at="known_at")
        bad = Aggregate(Field("bad", Float64), "mean", time_window=HOUR)
        view = StreamFeatureView("risk", source=labels, entities=[USER], features=[bad])
        return fingerprints(labels, view, service_source=requests)

    requests = stream("requests")
    assert of("payments")[1] != of("refunds")[1]


@pytest.mark.parametrize("amount", [Field("amount", Int64), Field("amount", Float64, optional=True)])
def test_the_type_of_a_request_column_is_part_of_the_service(amount):
    def of(field):
        source = stream(amount=field)
        count = Aggregate(Field("id", String), "count", time_window=HOUR)
        view = StreamFeatureView("counts", source=source, entities=[USER], features=[count])
        request = RequestSource([Field("amount", field.dtype)])
        half = RealtimeFeatureView(
            "half", sources=[request], features=[Attribute("half", Float64)], function=halved
        )
        return fingerprints(source, view, half)

    assert of(AMOUNT)[1] != of(amount)[1]


def halved(request):
    return {"half": request["amount"] / 2}


def test_the_time_at_which_features_are_asked_is_part_of_the_service():
    seen = Field("seen", Timestamp)
    source = stream(extra=[seen])
    other = stream("requests", extra=[seen], timestamp_field="seen")
    same = stream("requests", extra=[seen])
    view = totals(source)
    asked = [fingerprints(source, view, service_source=s)[1] for s in (other, same)]
    assert asked[0] != asked[1]
