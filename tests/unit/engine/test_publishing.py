"""Publishing the states of keys: what becomes of them when the store goes away, loses them, or others had it before."""

from datetime import timedelta

import numpy as np
import pytest

from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.core.errors import SnapshotError, StoreError
from penstock.engine.features import FeatureState
from penstock.engine.key_blobs import BlobNames, seal, unseal
from penstock.engine.publishing import SWEEP_US
from penstock.engine.replica import UNKNOWN, Borrowed, Replica
from penstock.kernel.columns import Columns, Numeric, Text
from penstock.plan.compile import compile_plan
from penstock.testing.clock import ManualClock
from penstock.testing.streams import START_US
from penstock.types import Field, Float64, String, Timestamp
from tests.blobs import DictBlobs, publish, publisher_of
from tests.laws.parity import engine_of, store_in

card = Entity("card", [Field("card", String)])
AMOUNT = Field("amount", Float64)
payments = StreamSource(
    "payments", PushConfig(), schema=[Field("card", String), Field("at", Timestamp), AMOUNT]
)


def plan_with(window=timedelta(hours=1), max_keys=100):
    spending = StreamFeatureView(
        "spending",
        source=payments,
        entities=[card],
        features=[Aggregate(AMOUNT, "sum", time_window=window, name="total")],
        max_keys=max_keys,
    )
    return compile_plan([(FeatureService("service", features=[spending]), payments)])


class Life:
    """An engine that publishes, and a replica."""

    def __init__(self, plan, store, ids, *, blobs=None, **options):
        self.clock = ManualClock(START_US)
        self.blobs = blobs or DictBlobs()
        self.engine = engine_of(plan, store, ids, FeatureState(plan))
        self.publisher = publisher_of(self.engine, store, self.blobs, self.clock, **options)
        self.replica = replica_of(plan, self.blobs, self.clock)

    def pay(self, *cards, amount=1.0):
        rows = [{"card": card, "at": START_US, "amount": amount} for card in cards]
        self.engine.process([("payments", self.engine.decode("payments", rows))]).wait()

    def publish(self):
        publish(self.publisher)

    def total(self, card="a"):
        return total_of(self.replica, card)


def replica_of(plan, blobs, clock, **options):
    return Replica(plan, blobs, namespace="p", clock=clock, **options)


def total_of(replica, card="a"):
    """What the next event of a card, of 10, would see, and what was known."""
    columns = {
        "card": Text.from_strings([card]),
        "at": Numeric(np.array([START_US])),
        "amount": Numeric(np.array([10.0])),
    }
    borrowed, rows = replica.features(replica.plan.services["service"], Columns(1, columns))
    return float(rows.values[0, 0]), borrowed


@pytest.fixture
def opened(tmp_path):
    with store_in(tmp_path) as both:
        yield both


def test_an_event_sees_what_was_published_and_itself(opened):
    life = Life(plan_with(), *opened)
    life.pay("a", "a", "b")
    life.publish()
    assert life.total() == (12.0, Borrowed(3, ()))
    assert life.total() == (12.0, Borrowed(3, ())), "asking leaves no trace"
    assert life.total("new") == (10.0, Borrowed(3, ()))


def test_while_nothing_is_known_features_are_null_and_the_answer_says_so(opened):
    life = Life(plan_with(), *opened)
    life.pay("a")
    total, borrowed = life.total()
    assert (np.isnan(total), borrowed) == (True, Borrowed(UNKNOWN, ("rebuilding",)))
    life.publish()
    life.blobs.away = True
    total, borrowed = life.total()
    assert (np.isnan(total), borrowed) == (True, Borrowed(UNKNOWN, ("store_away",)))
    with pytest.raises(StoreError):
        total_of(replica_of(life.replica.plan, life.blobs, life.clock, refuse=True))
    life.blobs.away = False
    assert life.total() == (11.0, Borrowed(1, ()))


def test_without_a_sign_of_the_engine_answers_are_stale(opened):
    life = Life(plan_with(), *opened)
    life.pay("a")
    life.publish()
    life.clock.advance(timedelta(seconds=11))
    assert life.total() == (11.0, Borrowed(1, ("stale",)))
    life.publish()
    assert life.total() == (11.0, Borrowed(1, ()))


def test_while_the_store_is_away_each_key_is_due_once_and_then_all_are_there(opened):
    life = Life(plan_with(), *opened)
    life.publish()
    life.blobs.away = True
    for _ in range(50):
        life.pay("a", "b")
        with pytest.raises(StoreError):
            life.publisher.step()
    assert life.publisher.due == 2
    life.blobs.away = False
    life.publish()
    assert life.total() == (60.0, Borrowed(100, ()))


def test_where_too_much_is_due_all_is_published_anew_from_the_state(opened):
    life = Life(plan_with(), *opened, most_due=3)
    life.publish()
    life.blobs.away = True
    for number in range(20):
        life.pay(f"k{number}")
        with pytest.raises(StoreError):
            life.publisher.step()
    life.blobs.away = False
    life.publish()
    assert [life.total(f"k{number}")[0] for number in range(20)] == [11.0] * 20


def test_a_store_that_came_up_empty_or_as_of_an_earlier_time_is_filled_again(opened):
    life = Life(plan_with(), *opened)
    life.pay("a", "b")
    life.publish()
    earlier = dict(life.blobs.kept)
    for state in ({}, earlier):
        life.pay("b")
        life.publish()
        life.blobs.kept = dict(state)
        life.clock.advance(timedelta(seconds=2))
        life.publish()
        assert life.total("a")[0] == 11.0
        assert life.total("b")[0] > 11.0
    assert life.total("b") == (13.0, Borrowed(4, ()))


def test_an_older_state_never_takes_the_place_of_a_newer_one(opened):
    life = Life(plan_with(), *opened)
    life.pay("a")
    life.publish()
    old = [(name, data) for name, (_, data) in life.blobs.kept.items()]
    life.pay("a")
    life.publish()
    life.blobs.put(old, 1)
    assert life.total() == (12.0, Borrowed(2, ()))


def test_what_another_log_published_is_dropped(opened, tmp_path):
    life = Life(plan_with(), *opened)
    life.pay("a", "gone")
    life.publish()
    (tmp_path / "other").mkdir()
    with store_in(tmp_path / "other") as other:
        life = Life(plan_with(), *other, blobs=life.blobs)
        life.pay("b")
        life.publish()
        assert life.total("gone") == (10.0, Borrowed(1, ()))


def test_keys_that_left_and_other_definitions_are_dropped(opened):
    life = Life(plan_with(timedelta(minutes=1)), *opened)
    life.pay("a")
    life.publish()
    plan = plan_with(max_keys=2)
    life = Life(plan, *opened, blobs=life.blobs)
    total, borrowed = life.total()
    assert (np.isnan(total), borrowed.flags) == (True, ("rebuilding",)), (
        "of other definitions nothing is taken"
    )
    life.pay("a", "b")
    life.publish()
    life.clock.advance(timedelta(microseconds=SWEEP_US))
    life.pay("c")
    life.publish()
    names = BlobNames.of(plan, "p")
    kept = [name for name in life.blobs.kept if name not in (names.published, names.begun)]
    assert sorted(map(names.parse, kept)) == [(0, b"b"), (0, b"c")]


def test_bytes_that_are_damaged_or_of_another_view_or_position_are_refused_and_features_null(opened):
    life = Life(plan_with(), *opened)
    life.pay("a")
    life.publish()
    (name,) = [name for name in life.blobs.kept if name.endswith(b":a")]
    position, data = life.blobs.kept[name]
    life.blobs.kept[name] = position, data[:-1] + b"!"
    total, borrowed = life.total()
    assert (np.isnan(total), borrowed) == (True, Borrowed(1, ("rebuilding",)))
    sealed = seal("view", 7, b"state")
    assert unseal("view", 7, sealed) == b"state"
    for fingerprint, at, wrong in (("view", 8, sealed), ("other", 7, sealed), ("view", 7, sealed[:20])):
        with pytest.raises(SnapshotError):
            unseal(fingerprint, at, wrong)
