"""What every online store does: read after write, expiry without events, no trace of reading.

An implementation is a context manager that opens a project and gives a `Store`, whose `online` reads from the store at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from penstock import (
    Aggregate,
    Attribute,
    BatchFeatureView,
    BatchSource,
    Entity,
    FeatureService,
    FileConfig,
    LabelSource,
    PushConfig,
    RequestSource,
    StreamFeatureView,
    StreamSource,
    TimeWindow,
    realtime_feature_view,
)
from penstock.aggregation_functions import last
from penstock.app import Runtime
from penstock.app.settings import Settings
from penstock.core.errors import InputError, NotFoundError, ProjectError
from penstock.core.time import to_us
from penstock.definitions.project import Project
from penstock.engine.online import OnlineFeatures, OnlineReader
from penstock.engine.publishing import Publisher
from penstock.engine.replica import Replica
from penstock.stores.redis_blobs import RedisBlobs
from penstock.testing.clock import ManualClock
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp
from tests.blobs import publish, publisher_of

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
AMOUNT = Field("amount", Float64)
card = Entity("card", [Field("card_id", String)])
shop = Entity("shop", [Field("shop_id", Int64)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", String),
        Field("card_id", String),
        Field("payee_id", String, optional=True),
        Field("shop_id", Int64),
        Field("at", Timestamp),
        AMOUNT,
    ],
    event_id_field="id",
    allowed_lateness=HOUR,
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at")
spending = StreamFeatureView(
    "spending",
    source=payments,
    entities=[card],
    features=[
        Aggregate(AMOUNT, "sum", time_window=MINUTE, name="minute"),
        Aggregate(AMOUNT, "mean", time_window=HOUR, name="hour"),
        Aggregate(AMOUNT, "count", time_window=TimeWindow(HOUR, -MINUTE), name="before"),
        Aggregate(Field("id", String), "last", time_window=HOUR, name="last"),
        Aggregate(Field("at", Timestamp), "max", time_window=HOUR, name="newest"),
        Aggregate(AMOUNT, "time_since_last", time_window=HOUR, name="since"),
    ],
)
risk = StreamFeatureView(
    "risk",
    source=frauds,
    entities=[shop],
    features=[Aggregate(Field("fraud", Bool), "mean", time_window=DAY, name="share")],
)


@realtime_feature_view(
    sources=[RequestSource([AMOUNT, Field("at", Timestamp)]), spending[["hour"]]],
    features=[Attribute("ratio", Float64), Attribute("night", Bool)],
)
def compared(request, spending):
    hours = request["at"].astype("datetime64[h]").astype("int64") % 24
    return {"ratio": request["amount"] / spending["hour"], "night": hours < 6}


payee = spending[["minute"]].with_name("payee").with_join_key_map({"card_id": "payee_id"})
service = FeatureService("service", features=[spending, risk, compared, payee])

holders = BatchSource(
    "holders",
    FileConfig("holders.csv", "csv", data_delay=HOUR),
    schema=[Field("card_id", String), Field("changed", Timestamp), Field("age", Int64, optional=True)],
)
profile = BatchFeatureView(
    "profile", sources=[holders], entities=[card], features=[Attribute("age", Int64)], ttl=DAY
)
ages = BatchFeatureView(
    "ages",
    sources=[holders],
    entities=[card],
    features=[
        Aggregate(Field("age", Int64), last(2), time_window=DAY, name="two"),
        Aggregate(Field("age", Int64), "max", time_window=DAY, name="most"),
    ],
)
about = FeatureService("about", features=[spending[["minute"]], profile, ages])


@dataclass
class Store:
    """A project whose clock the test moves."""

    runtime: Runtime
    clock: ManualClock

    @property
    def online(self) -> OnlineReader:
        return self.runtime.online

    def pay(self, number: int, at: timedelta, *, amount: float = 1.0, card: str = "ann") -> None:
        event = {"id": f"e{number}", "card_id": card, "shop_id": 7, "at": START + at, "amount": amount}
        (answer,) = self.runtime.ingest("payments", [event])
        assert answer.status == "logged"

    def at(self, moment: timedelta) -> Store:
        self.clock.advance(START + moment - datetime.fromtimestamp(self.clock.now_us() / 1e6, UTC))
        return self

    def read(self, *, amount: float = 1.0, card: str = "ann") -> OnlineFeatures:
        keys = {"card_id": card, "shop_id": 7, "payee_id": None}
        return self.online.read("service", keys, {"amount": amount})


@contextmanager
def in_memory(folder: Path) -> Iterator[Store]:
    definitions = {
        "sources": {"payments": payments},
        "label_sources": {"frauds": frauds},
        "batch_sources": {"holders": holders},
        "services": {"service": service, "about": about},
    }
    clock = ManualClock(to_us(START))
    project = Project(folder, "p", {}, **definitions)
    with Runtime.open(folder, project=project, settings=Settings(), clock=clock) as runtime:
        yield Store(runtime, clock)


@dataclass
class Published(Store):
    """As above, read through what is published of it."""

    reader: OnlineReader
    publisher: Publisher

    @property
    def online(self) -> OnlineReader:
        publish(self.publisher)
        return self.reader


@contextmanager
def in_redis(folder: Path, url: str) -> Iterator[Store]:
    blobs = RedisBlobs(url, timeout_s=5)
    with in_memory(folder) as opened:
        runtime, clock = opened.runtime, opened.clock
        name = folder.parent.name + folder.name
        publisher = publisher_of(runtime.engine, runtime.store, blobs, clock, namespace=name)
        replica = Replica(runtime.plan, blobs, namespace=name, clock=clock, fresh_s=1e9)
        yield Published(runtime, clock, OnlineReader(replica, clock), publisher)
    blobs.close()


@pytest.fixture(params=["memory", "redis"])
def store(request, tmp_path):
    url = request.getfixturevalue("redis").address if request.param == "redis" else None
    with in_memory(tmp_path) if url is None else in_redis(tmp_path, url) as opened:
        yield opened


def test_an_event_is_read_as_soon_as_it_is_acknowledged(store):
    store.pay(1, timedelta(), amount=5.0)
    found = store.read().to_dict()
    assert found["spending.minute"] == 5.0
    assert found["spending.last"] == "e1"
    assert found["spending.newest"] == START


def test_windows_expire_without_a_new_event(store):
    store.pay(1, timedelta(), amount=5.0)
    almost = store.at(MINUTE - timedelta(microseconds=1)).read().to_dict()
    assert almost["spending.minute"] == 5.0
    after = store.at(MINUTE).read().to_dict()
    assert after["spending.minute"] == 0.0
    assert after["spending.hour"] == 5.0
    assert after["spending.before"] == 1
    assert after["spending.since"] == 60.0
    assert store.at(HOUR).read().to_dict()["spending.hour"] is None


def test_an_unknown_key_has_the_values_of_empty_windows(store):
    store.pay(1, timedelta())
    found = store.read(card="bob").to_dict()
    assert found["spending.minute"] == 0.0
    assert found["spending.hour"] is None
    assert found["spending.last"] is None
    assert {m["name"]: m["effective_time"] for m in store.read(card="bob").metadata()}[
        "spending.hour"
    ] is None


def test_realtime_features_see_the_request(store):
    store.pay(1, timedelta(), amount=4.0)
    found = store.read(amount=6.0).to_dict()
    assert found["compared.ratio"] == 1.5
    assert found["compared.night"] is True


def test_labels_count_from_when_they_are_known(store):
    store.pay(1, timedelta())
    store.runtime.ingest("frauds", [{"id": "e1", "fraud": True, "known_at": START + MINUTE}])
    assert store.at(timedelta(seconds=59)).read().to_dict()["risk.share"] is None
    assert store.at(MINUTE).read().to_dict()["risk.share"] == 1.0


def test_a_mapped_key_is_asked_for_under_its_own_name(store):
    store.pay(1, timedelta(), amount=3.0, card="bob")
    keys = {"card_id": "ann", "shop_id": 7, "payee_id": "bob"}
    found = store.online.read("service", keys, {"amount": 1.0}).to_dict()
    assert found["payee.minute"] == 3.0
    assert found["spending.minute"] == 0.0


def test_freshness_tells_how_old_what_is_known_is(store):
    store.pay(1, timedelta())
    found = {m["name"]: m for m in store.at(MINUTE).read().metadata()}
    assert found["spending.hour"]["effective_time"] == START
    assert found["spending.hour"]["freshness"] == MINUTE
    assert found["spending.hour"]["status"] == "present"
    assert found["risk.share"]["status"] == "missing"
    assert found["compared.ratio"]["freshness"] == timedelta()


def test_many_keys_at_once_are_answered_as_one_by_one(store):
    for number in range(300):
        store.pay(number, timedelta(seconds=number), card=f"c{number % 50}", amount=number + 0.1)
    store.at(timedelta(seconds=320))
    keys = [{"card_id": f"c{i}", "shop_id": 7, "payee_id": f"c{i + 1}"} for i in range(60)]
    data = [{"amount": float(i)} for i in range(60)]
    together = store.online.read("service", keys, data)
    alone = [store.online.read("service", k, d).to_dict() for k, d in zip(keys, data, strict=True)]
    assert together.to_dicts() == alone
    assert together.to_arrow().to_pylist() == alone


def test_numbers_are_a_matrix_and_texts_are_not(store):
    store.pay(1, timedelta(), amount=2.0)
    keys = {"shop_id": 7}
    np.testing.assert_array_equal(store.online.read("risk", [keys, keys]).to_numpy(), [[np.nan], [np.nan]])
    with pytest.raises(InputError, match=r"spending.last"):
        store.read().to_numpy()


def test_reading_leaves_no_trace(store):
    store.pay(1, timedelta(), amount=2.0)
    before = store.read().to_dict()
    store.at(10 * DAY).read()
    store.at(-DAY).read()
    assert store.at(timedelta()).read().to_dict() == before
    store.pay(2, timedelta(seconds=5), amount=3.0)
    assert store.at(timedelta(seconds=5)).read().to_dict()["spending.minute"] == 5.0
    assert len(store.read()) == 1
    assert store.read().position == 2


def test_a_view_is_read_alone(store):
    store.pay(1, timedelta(), amount=2.0)
    found = store.online.read("spending", {"card_id": "ann"}).to_dict()
    assert found["spending.minute"] == 2.0
    assert spending.get_online_features({"card_id": "ann"}).to_dict() == found
    assert service.get_online_features(
        {"card_id": "ann", "shop_id": 7, "payee_id": None}, {"amount": 1.0}
    ).names == tuple(service.feature_types)


def test_a_profile_counts_from_its_delay_on_until_it_expires_or_is_superseded(store):
    def age(moment: timedelta, view: str = "profile", card: str = "ann") -> int | None:
        return store.at(moment).online.read(view, {"card_id": card}).to_dict()["profile.age"]

    def change(at: timedelta, age: int | None) -> None:
        (answer,) = store.runtime.ingest("holders", [{"card_id": "ann", "changed": START + at, "age": age}])
        assert answer.status == "logged"

    change(timedelta(), 30)
    assert [age(HOUR - timedelta(microseconds=1)), age(HOUR), age(HOUR, "about")] == [None, 30, 30]
    assert age(HOUR, card="bob") is None
    change(HOUR, None)
    assert [age(HOUR), age(2 * HOUR)] == [30, None], "a null is the value, not the one before"
    change(2 * HOUR, 31)
    assert [age(3 * HOUR), age(DAY + 3 * HOUR - timedelta(microseconds=1)), age(DAY + 3 * HOUR)] == [
        31,
        31,
        None,
    ]
    (found,) = store.at(4 * HOUR).online.read("profile", {"card_id": "ann"}).metadata()
    assert (found["effective_time"], found["freshness"]) == (START + 3 * HOUR, HOUR)
    assert profile.get_online_features({"card_id": "ann"}).to_dict() == {"profile.age": 31}


def test_lists_and_what_comes_behind_them_are_read_from_a_view_alone(store):
    for hours, age in enumerate([3, 1, 2]):
        store.runtime.ingest("holders", [{"card_id": "ann", "changed": START + hours * HOUR, "age": age}])
    found = store.at(4 * HOUR).online.read("ages", {"card_id": "ann"}).to_dict()
    assert found == {"ages.two": [1, 2], "ages.most": 3}


def test_reading_beside_a_stream_gives_whole_events(store):
    keys = {"card_id": "ann"}

    def read() -> list[tuple[int, float]]:
        seen = []
        for _ in range(200):
            found = store.online.read("spending", keys)
            seen.append((found.position, found.to_dict()["spending.minute"]))
        return seen

    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read)
        for number in range(200):
            store.pay(number, timedelta(), amount=1.0)
        seen = reading.result()
    assert all(total == float(position) for position, total in seen)


@pytest.mark.parametrize(
    ("keys", "data", "found"),
    [
        ({"card_id": "ann", "shop_id": 7}, {"amount": 1.0}, "'payee_id' is missing"),
        ({"card_id": "ann", "shop_id": 7, "payee_id": None}, None, "'amount' is missing"),
        ({"card_id": "ann", "shop_id": 7, "payee_id": None, "x": 1}, {"amount": 1.0}, "'x' is not asked for"),
        ({"card_id": 5, "shop_id": 7, "payee_id": None}, {"amount": 1.0}, "Expected `str`, got `int`"),
        ([{"card_id": "ann"}], [{}, {}], "1 join_keys and 2 request_data"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(store, keys, data, found):
    with pytest.raises(InputError, match=found):
        store.online.read("service", keys, data)


def test_unknown_names_are_answered_with_those_that_there_are(store):
    with pytest.raises(NotFoundError, match=r"there are service, about, spending, risk, profile, ages"):
        store.online.read("sevice", {})


def test_one_row_is_asked_for_where_there_are_several(store):
    keys = [{"card_id": "ann"}, {"card_id": "bob"}]
    with pytest.raises(InputError, match="there are 2 rows"):
        store.online.read("spending", keys).to_dict()
    assert store.online.read("spending", []).to_dicts() == []


def test_without_an_open_project_there_is_nothing_to_read():
    with pytest.raises(ProjectError, match="no project is open"):
        spending.get_online_features({"card_id": "ann"})
