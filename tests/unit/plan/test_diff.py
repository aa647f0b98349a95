"""What `penstock plan` says differs between two plans."""

from datetime import timedelta

from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.plan.compile import compile_plan
from penstock.plan.describe import describe
from penstock.plan.diff import Change, differences
from penstock.types import Field, Float64, String, Timestamp

HOUR = timedelta(hours=1)
AMOUNT = Field("amount", Float64)
card = Entity("card", [Field("card_id", String)])
payments = StreamSource(
    "payments", PushConfig(), schema=[Field("card_id", String), Field("at", Timestamp), AMOUNT]
)


def described(*functions, max_keys=10, lateness=HOUR):
    source = StreamSource("payments", PushConfig(), schema=list(payments.schema), allowed_lateness=lateness)
    view = StreamFeatureView(
        "spending",
        source=source,
        entities=[card],
        features=[Aggregate(AMOUNT, function, time_window=HOUR, name=function) for function in functions],
        max_keys=max_keys,
    )
    return describe(compile_plan([(FeatureService("service", features=[view]), source)]))


def test_the_first_definitions_are_all_new():
    assert [(c.action, c.kind, c.name) for c in differences(None, described("sum"))] == [
        ("add", "source", "payments"),
        ("add", "view", "spending"),
        ("add", "service", "service"),
    ]


def test_equal_definitions_differ_in_nothing():
    assert differences(described("sum"), described("sum")) == ()


def test_features_come_and_go():
    changes = differences(described("sum", "mean"), described("mean", "max"))
    assert changes[0] == Change("change", "view", "spending", ("+ feature max", "- feature sum"))
    assert changes[1].kind == "service"
    assert "+ feature spending.max" in changes[1].details


def test_order_alone_is_a_change_too():
    (view, service) = differences(described("sum", "mean"), described("mean", "sum"))
    assert view.details == ("order of features",)
    assert service.details == ("order of features",)


def test_a_bound_and_a_clock_rule_are_told():
    (view,) = differences(described("sum"), described("sum", max_keys=1000))
    assert view.details == ("max keys: 10 → 1,000",)
    changes = differences(described("sum"), described("sum", lateness=2 * HOUR))
    assert changes[0] == Change("change", "source", "payments", ("allowed lateness: 1h → 2h",))
    assert changes[1].kind == "view", "the state of its views is another"


def test_what_is_gone_is_removed():
    nothing = {"sources": [], "views": [], "services": [], "endpoints": []}
    assert {c.action for c in differences(described("sum"), nothing)} == {"remove"}
