"""Which projects workers refuse: those of which a partition holds some events of a key only."""

from datetime import timedelta

import pytest

from penstock import (
    Aggregate,
    BatchFeatureView,
    BatchSource,
    Entity,
    FeatureService,
    FileConfig,
    KafkaConfig,
    KeyList,
    LabelSource,
    StreamFeatureView,
    StreamSource,
)
from penstock.app.partition_keys import check_partition_key, check_read
from penstock.core.errors import DefinitionError, InputError
from penstock.plan.compile import compile_plan
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

CARD, SHOP, AMOUNT = Field("card", String), Field("shop", String), Field("amount", Float64)
SCHEMA = [Field("id", String), CARD, SHOP, Field("other_shop", String), Field("at", Timestamp), AMOUNT]
SUM = [Aggregate(AMOUNT, "sum", time_window=timedelta(hours=1))]
payments = StreamSource("payments", KafkaConfig("b:9092", "payments"), schema=SCHEMA, event_id_field="id")
frauds = LabelSource("frauds", of=payments, label=Field("is_fraud", Bool), known_at="known_at")
shops = BatchSource(
    "shops", FileConfig("shops.parquet", "parquet"), schema=[SHOP, Field("at", Timestamp), AMOUNT]
)
READ = {"payments", "frauds"}


def view(name, *keys, source=payments, features=SUM):
    entities = [Entity(key.name, join_keys=[key]) for key in keys]
    return StreamFeatureView(name, source=source, entities=entities, features=features)


def check(*views, key=None, read=READ):
    plan = compile_plan([(FeatureService("all", features=[*views]), payments)])
    check_read(plan, "payments", read=read)
    check_partition_key(plan, "payments", key=key)


by_card, by_shop, by_both = view("by_card", CARD), view("by_shop", SHOP), view("by_both", CARD, SHOP)


@pytest.mark.parametrize(
    ("views", "key"),
    [
        ([by_card], None),
        ([by_card], "card"),
        ([by_shop], "shop"),
        ([by_card, by_both], None),
        ([by_card, by_both], "card"),
        ([by_both], "shop"),
    ],
)
def test_views_that_share_the_key_of_the_topic_are_right_in_each_partition(views, key):
    check(*views, key=key)


@pytest.mark.parametrize(
    ("views", "key", "message"),
    [
        ([by_card, by_shop], None, "'by_card' by card, 'by_shop' by shop; they have no key in common"),
        ([by_card, by_shop], "card", "keyed by 'card', and not so by_shop"),
        ([by_card, by_both], "shop", "keyed by 'shop', and not so by_card"),
        ([by_card], "other_shop", "keyed by 'other_shop', and not so by_card"),
        ([by_shop.with_join_key_map({"shop": "other_shop"})], "shop", "not so by_shop"),
    ],
)
def test_views_whose_keys_are_spread_over_partitions_are_refused(views, key, message):
    with pytest.raises(InputError, match=message):
        check(*views, key=key)


def test_views_over_labels_have_the_key_of_their_event():
    share = [Aggregate(Field("is_fraud", Bool), "mean", time_window=timedelta(days=1))]
    check(by_card, view("risk", CARD, source=frauds, features=share))
    with pytest.raises(InputError, match="'risk' by shop"):
        check(by_card, view("risk", SHOP, source=frauds, features=share))


def test_views_over_what_nobody_reads_are_refused():
    share = [Aggregate(Field("is_fraud", Bool), "mean", time_window=timedelta(days=1))]
    with pytest.raises(InputError, match="'risk' is over 'frauds', which is not read from Kafka"):
        check(view("risk", CARD, source=frauds, features=share), read={"payments"})
    profile = BatchFeatureView("profile", sources=[shops], entities=[Entity("shop", [SHOP])], features=SUM)
    with pytest.raises(InputError, match="'profile' is over the table 'shops'"):
        check(profile)


def test_the_key_of_a_topic_is_a_column_of_its_source():
    config = KafkaConfig("b:9092", "t", key_field="cart")
    with pytest.raises(DefinitionError, match="key_field of its KafkaConfig is 'cart'; allowed are columns"):
        StreamSource("s", config, schema=SCHEMA)
    with pytest.raises(DefinitionError, match="labels have the key of their event"):
        LabelSource("l", of=payments, label=Field("x", Int64), known_at="k", stream_config=config)


def test_lists_are_refused_with_advice_that_works():
    blocked = KeyList("blocked", Entity("card", join_keys=[CARD]))
    with pytest.raises(
        InputError, match=r"list 'blocked': workers take no changes of lists.*Use penstock up"
    ):
        check(by_card, blocked.on(payments), key="card", read=READ)
