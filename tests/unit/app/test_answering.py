"""Requests through the engine: coalesced, answered when durable, each with its own verdict."""

import msgspec
import pytest

from penstock.app import Runtime
from penstock.app.answering import Answering
from penstock.app.request_queue import Ask, RequestQueue
from penstock.core.errors import DeadlineError, NotFoundError, StoreError
from penstock.engine.answers import Answer
from tests.unit.app.arms import Constant, events, write_project

FOREVER = float("inf")


class Service:
    """A project with its queue, and what was delivered."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.queue = RequestQueue(max_events=10_000, now_s=lambda: self.now_s)
        self.now_s = 0.0
        self.replies = {}
        self.processed = []
        self.answering = Answering(runtime, self.queue, self._deliver)

    def ask(self, name, found, *, source="payments", deadline_s=FOREVER, with_features=False):
        lines = found if isinstance(found, list) else [found]
        data = b"\n".join(one if isinstance(one, bytes) else msgspec.json.encode(one) for one in lines)
        self.queue.put(Ask(source, data, len(lines), deadline_s, with_features, ticket=name))

    def serve(self):
        served = self.answering.serve(lambda processed, _: self.processed.append(processed))
        self.runtime.engine.flush()
        return served

    def _deliver(self, replies):
        for ask, reply in replies:
            assert ask.ticket not in self.replies, "answered twice"
            self.replies[ask.ticket] = reply


@pytest.fixture
def service(tmp_path):
    with Runtime.open(write_project(tmp_path)) as runtime:
        runtime.routes.serve("checkout", Constant("fraud:1", 0.95))
        yield Service(runtime)


def test_what_waits_together_is_one_micro_batch_and_each_gets_its_own_answers(service):
    sent = events(0, 5)
    service.ask("a", sent[:2])
    service.ask("b", sent[2])
    service.ask("c", sent[3:])
    assert service.serve()
    assert len(service.processed) == 1
    assert {name: [one.event_id for one in reply] for name, reply in service.replies.items()} == {
        "a": ["e0", "e1"],
        "b": ["e2"],
        "c": ["e3", "e4"],
    }
    assert service.replies["b"][0] == Answer(
        "scored", "e2", 2, score=0.95, action="block", model="fraud:1", arm="champion"
    )
    assert not service.serve(), "nothing waits any more"


def test_answers_equal_those_of_ingest(tmp_path):
    asked, ingested = tmp_path / "asked", tmp_path / "ingested"
    sent = events(0, 30)
    sent = [*sent, sent[3], {**sent[4], "amount": 1e6}, {"id": 1}, *events(20, 20)]
    found = []
    for root in (asked, ingested):
        root.mkdir()
        with Runtime.open(write_project(root)) as runtime:
            runtime.routes.serve("checkout", Constant("fraud:1", 0.95))
            if root is ingested:
                found.append(runtime.ingest("payments", sent, with_features=True))
                continue
            service = Service(runtime)
            for i, one in enumerate(sent):
                service.ask(i, one, with_features=True)
            service.serve()
            found.append([service.replies[i][0] for i in range(len(sent))])
    assert found[0] == found[1]
    assert {one.status for one in found[0]} == {"scored", "duplicate", "rejected"}


def test_an_id_that_was_answered_before_is_answered_the_same(service):
    service.ask("first", events(0, 3), with_features=True)
    service.serve()
    service.runtime.routes.serve("checkout", Constant("fraud:2", 0.1))
    service.ask("again", [*events(0, 3)[::-1], *events(3, 1)], with_features=True)
    service.serve()
    first, again = service.replies["first"], service.replies["again"]
    assert [msgspec.structs.replace(one, status="scored") for one in again[:3]] == first[::-1]
    assert [one.status for one in again] == ["duplicate"] * 3 + ["scored"]
    assert again[3].model == "fraud:2"


def test_events_and_labels_wait_in_one_queue(service):
    service.ask("event", events(0, 1))
    service.ask("label", {"id": "e0", "fraud": True, "known_at": "2026-01-02T00:00:00Z"}, source="frauds")
    service.serve()
    assert service.replies["label"][0].status == "logged"
    assert service.runtime.store.counters()["labels_joined"] == 1


def test_a_request_whose_deadline_passed_while_it_waited_leaves_nothing_behind(service):
    service.ask("late", events(0, 1), deadline_s=1.0)
    service.ask("patient", events(1, 1))
    service.now_s = 2.0
    service.serve()
    assert isinstance(service.replies["late"], DeadlineError)
    assert not service.replies["late"].taken
    assert service.replies["patient"][0].status == "scored"
    assert service.runtime.store.next_position == 1


def test_a_source_that_is_gone_is_said_to_its_requests_alone(service):
    service.ask("gone", {"a": 1}, source="refunds")
    service.ask("here", events(0, 1))
    service.serve()
    assert isinstance(service.replies["gone"], NotFoundError)
    assert service.replies["here"][0].status == "scored"


def test_a_bad_event_is_refused_alone(service):
    service.ask("bad", [b"{", b"null", events(0, 1)[0], b"\xff"])
    service.ask("good", events(1, 1))
    service.serve()
    assert [one.status for one in service.replies["bad"]] == ["rejected", "rejected", "scored", "rejected"]
    assert service.replies["good"][0].status == "scored"
    assert service.runtime.store.dead_letter_count() == 3


def test_an_engine_that_stops_tells_everybody(service, monkeypatch):
    def broken(_commit):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(service.runtime.store, "commit", broken)
    service.ask("a", events(0, 1))
    with pytest.raises(OSError, match="No space"):
        service.serve()
    assert isinstance(service.replies["a"], StoreError)
    assert "send them again with the same ids" in str(service.replies["a"])
    service.ask("b", events(1, 1))
    with pytest.raises(StoreError):
        service.serve()
    assert isinstance(service.replies["b"], StoreError)


def test_draining_answers_all_that_waits(service):
    for i in range(20):
        service.ask(i, events(i, 1))
    service.answering.drain(lambda *_: None)
    service.runtime.engine.flush()
    assert [service.replies[i][0].status for i in range(20)] == ["scored"] * 20
