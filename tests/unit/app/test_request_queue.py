"""The queue between those who ask and the engine."""

from threading import Thread

import pytest

from penstock.app.request_queue import EVENT_BYTES, Ask, RequestQueue
from penstock.core.errors import OverloadError


def ask(events=1, size=10, source="payments"):
    return Ask(source, b"x" * size, events, deadline_s=float("inf"))


def test_requests_come_out_in_the_order_in_which_they_went_in():
    queue = RequestQueue(max_events=10)
    asks = [ask(), ask(2), ask()]
    for one in asks:
        queue.put(one)
    assert (len(queue), queue.events) == (3, 4)
    assert queue.take(3) == asks[:2]
    assert queue.take(3) == asks[2:]
    assert queue.take(3) == []
    assert queue.events == 0


def test_a_request_larger_than_a_micro_batch_is_taken_whole_and_alone():
    queue = RequestQueue(max_events=100)
    queue.put(ask(50))
    queue.put(ask())
    assert [one.events for one in queue.take(10)] == [50]
    assert [one.events for one in queue.take(10)] == [1]


def test_it_is_bounded_by_events_and_by_bytes():
    queue = RequestQueue(max_events=3)
    queue.put(ask(2))
    with pytest.raises(OverloadError, match="2 events wait") as caught:
        queue.put(ask(2))
    assert caught.value.retry_after_s > 0
    queue.put(ask(1))
    assert queue.refused == 1
    queue.take(3)
    queue.put(ask(1, size=3 * EVENT_BYTES))
    with pytest.raises(OverloadError):
        queue.put(ask(1, size=1))
    assert queue.refused == 2


def test_a_request_larger_than_the_queue_finds_room_when_nothing_waits():
    queue = RequestQueue(max_events=3)
    queue.put(ask(10))
    with pytest.raises(OverloadError):
        queue.put(ask())
    assert len(queue.take(3)) == 1
    queue.put(ask())


def test_only_what_waits_can_be_withdrawn_and_only_once():
    queue = RequestQueue(max_events=10)
    first, second = ask(), ask(2)
    queue.put(first)
    queue.put(second)
    assert queue.withdraw(second)
    assert not queue.withdraw(second)
    assert queue.events == 1
    assert queue.take(10) == [first]
    assert not queue.withdraw(first)


def test_a_closed_queue_gives_what_it_has_and_takes_no_more():
    queue = RequestQueue(max_events=10)
    queue.put(ask())
    queue.close()
    with pytest.raises(OverloadError, match="shutting down"):
        queue.put(ask())
    assert queue.wait(0)
    assert len(queue.take(10)) == 1
    assert not queue.wait(60), "there is nothing to wait for any more"


def test_whoever_waits_is_woken_by_a_request():
    queue = RequestQueue(max_events=10)
    seen = []
    waiting = Thread(target=lambda: seen.append(queue.wait(60)))
    waiting.start()
    queue.put(ask())
    waiting.join(10)
    assert seen == [True]
