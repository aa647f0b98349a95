from threading import Event
from types import SimpleNamespace

import pyarrow as pa
import pytest

import examples.fraud.feed as module
from examples.fraud.feed import Feed
from examples.fraud.world import HERE
from penstock.app import plan_of
from penstock.definitions.project import load_project

EVENT_TIMES = [10, 20, 30, 30, 40, 50, 60]
LABEL_TIMES = [5, 20, 30, 30, 41, 99]


class Recorder:
    """Stands in for an open project: keeps what it is given."""

    plan = plan_of(load_project(HERE))

    def __init__(self):
        self.batches, self.offsets, self.decide = [], {}, []
        self.store = SimpleNamespace(offsets=lambda: self.offsets)
        self.engine = SimpleNamespace(flush=lambda: None)

    def process(self, inputs, *, by_time, decide, offsets):
        assert by_time
        self.batches.append(
            {name: decoded.columns["transaction_id"].values.tolist() for name, decoded in inputs}
        )
        self.decide.append(decide)
        self.offsets = offsets


@pytest.fixture
def project(monkeypatch):
    monkeypatch.setattr(module, "BATCH_ROWS", 3)
    return Recorder()


@pytest.fixture
def feed(project):
    def at(times):
        return pa.array(times, pa.timestamp("us", tz="UTC"))

    events = pa.table(
        {
            "transaction_id": range(7),
            "timestamp": at(EVENT_TIMES),
            "customer_id": [1] * 7,
            "terminal_id": [2] * 7,
            "amount": [1.0] * 7,
        }
    )
    labels = pa.table({"transaction_id": range(6), "is_fraud": [False] * 6, "reported_at": at(LABEL_TIMES)})
    return Feed(project, "transactions", events, "chargebacks", labels)


def test_a_label_is_there_before_the_events_from_its_time_on(feed, project):
    assert feed.run(7) == 7
    assert project.batches == [
        {"chargebacks": [0, 1, 2, 3], "transactions": [0, 1, 2]},
        {"transactions": [3, 4, 5], "chargebacks": [4]},
        {"transactions": [6]},
    ]
    assert project.offsets == {"transactions": "7", "chargebacks": "5"}


def test_it_goes_on_where_it_was(feed, project):
    feed.run(2, decide=False)
    assert feed.done == 2
    feed.run(7)
    assert [row for batch in project.batches for row in batch["transactions"]] == list(range(7))
    assert [row for batch in project.batches for row in batch.get("chargebacks", [])] == list(range(5))
    assert project.decide == [False, True, True]
    before = len(project.batches)
    assert feed.run(7) == 7
    assert len(project.batches) == before


def test_it_stops_after_the_micro_batch_under_way(feed, project):
    cancelled = Event()
    assert feed.run(7, after=lambda done: cancelled.set(), cancelled=cancelled) == 3
    assert project.offsets["transactions"] == "3"


def test_a_slow_stream_has_small_batches(feed, project):
    feed.run(7, rate=20.0 * 1_000, after=None)
    assert len(project.batches) == 3
    slow = Recorder()
    Feed(slow, "transactions", feed.events, "chargebacks", feed.labels).run(2, rate=15.0)
    assert [len(batch["transactions"]) for batch in slow.batches] == [1, 1]
