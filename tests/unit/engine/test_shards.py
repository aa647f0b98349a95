"""Cutting a plan by key: what goes where."""

from __future__ import annotations

from penstock.engine.shards import shard_plan
from tests.laws.test_engine_parity import PLAN
from tests.laws.test_profile_parity import PLAN as PROFILES

SHARDED = shard_plan(PLAN, [PLAN.services["everything"]])


def of(source):
    return [
        (copy.enters, copy.key_columns, [PLAN.views[i].name for i in SHARDED.shards[copy.shard].views])
        for copy in SHARDED.copies_of(source)
    ]


def test_views_of_one_key_share_a_shard_and_those_with_functions_have_their_own():
    card = ["totals", "texts", "beyond", "queued", "lists"]
    assert {tuple(PLAN.views[i].name for i in shard.views) for shard in SHARDED.shards} == {
        tuple(name for name in (view.name for view in PLAN.views) if name in card),
        ("large",),
        ("risk",),
    }


def test_an_event_enters_asks_by_its_own_key_and_by_another():
    assert sorted((enters, keys) for enters, keys, _ in of("payments")) == [
        (False, ("card_id",)),
        (False, ("payee_id",)),
        (False, ("shop_id",)),
        (True, ()),
        (True, ()),
    ]
    assert [(enters, keys) for enters, keys, _ in of("logins")] == [(True, ())]
    assert [(enters, keys) for enters, keys, _ in of("chargebacks")] == [(True, ())]


def test_copies_that_ask_carry_key_and_time_alone():
    asking = [copy for copy in SHARDED.copies if not copy.enters]
    assert all({f.name for f in copy.fields} == {*copy.key_columns, "time"} for copy in asking)


def test_the_shards_plans_have_the_views_and_nothing_else():
    for plan in (PLAN, PROFILES):
        sharded = shard_plan(plan, [plan.services["everything"]])
        views = [view.name for shard in sharded.shards for view in shard.plan.views]
        assert sorted(views) == sorted(
            {plan.views[one.view].name for one in plan.services["everything"].lookups}
        )
