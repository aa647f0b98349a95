"""A plan cut into stages: which views each computes, what it hands on, and what is refused."""

from datetime import timedelta

import pytest

from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.aggregation_functions import last
from penstock.core.errors import PlanError
from penstock.plan.compile import compile_plan
from penstock.plan.stages import stages_of
from penstock.types import Field, Float64, String, Timestamp

CARD, SHOP, AMOUNT = Field("card", String), Field("shop", String), Field("amount", Float64)
SUM = Aggregate(AMOUNT, "sum", time_window=timedelta(hours=1))
LIST = Aggregate(AMOUNT, last(3), time_window=timedelta(hours=1))
SCHEMA = [Field("id", String), CARD, SHOP, Field("other_shop", String), Field("at", Timestamp), AMOUNT]
payments = StreamSource(
    "payments", PushConfig(), schema=[*SCHEMA, Field("city", String, optional=True)], event_id_field="id"
)


def view(name, *keys, features=(SUM,)):
    entities = [Entity(key.name, join_keys=[key]) for key in keys]
    return StreamFeatureView(name, source=payments, entities=entities, features=[*features])


by_card, by_shop, by_both = view("by_card", CARD), view("by_shop", SHOP), view("by_both", CARD, SHOP)
mapped = by_shop.with_join_key_map({"shop": "other_shop"})


def cut(*views, columns=("card", "shop")):
    return stages_of(
        compile_plan([(FeatureService("all", features=[*views]), payments)]), "payments", columns
    )


def test_a_view_is_computed_by_the_first_stage_that_has_all_rows_of_its_keys():
    first, deciding = cut(by_shop, by_card, by_both)
    assert [v.name for v in first.plan.views] == ["by_card", "by_both"]
    assert [(v.name, v.given) for v in deciding.plan.views] == [
        ("by_shop", False),
        ("by_card", True),
        ("by_both", True),
    ]
    assert (first.following, deciding.following) == ("shop", None)


def test_services_mean_what_they_meant():
    whole = compile_plan([(FeatureService("all", features=[by_card, by_shop]), payments)])
    first, deciding = cut(by_card, by_shop)
    assert deciding.plan.services == whole.services
    assert len({first.plan.fingerprint, deciding.plan.fingerprint, whole.fingerprint}) == 3
    assert [name for name, _ in deciding.plan.sources["payments"].given] == [
        "_given.by_card(card).amount_sum_1h_continuous"
    ]


def test_a_stage_without_views_hands_on_events_alone():
    first, deciding = cut(by_shop)
    assert first.plan.views == ()
    assert deciding.plan.sources["payments"].given == ()


@pytest.mark.parametrize(
    ("views", "columns", "message"),
    [
        ([by_card, by_shop], ("card",), "'by_shop': it is looked up by shop, and events are parted by card"),
        ([by_card, mapped], ("card", "shop"), "'by_shop': it is looked up by other_shop"),
        ([by_card, by_shop], ("card", "card"), "each once"),
        ([by_card, by_shop], ("card", "shape"), "allowed are its columns that are never null"),
        ([by_card], ("card", "city"), "never null"),
        ([view("by_card", CARD, features=(SUM, LIST))], ("card", "shop"), "are lists"),
    ],
)
def test_what_cannot_be_cut_is_refused(views, columns, message):
    with pytest.raises(PlanError, match=message):
        cut(*views, columns=columns)


def test_lists_may_be_in_the_last_stage():
    assert not cut(by_card, view("by_shop", SHOP, features=(LIST,)))[1].plan.views[1].given
