"""The server under load and under fire: each event one decision, nothing acknowledged lost, overload refused, drained in time."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import penstock
from penstock.app.runtime import store_path
from penstock.app.settings import EngineSettings, ServeSettings, Settings
from penstock.core.errors import OverloadError, PenstockError
from penstock.stores.reader import ProjectReader
from penstock.testing.clock import ManualClock
from penstock.testing.serving import serving_project
from tests.crash.engine_life import PROJECT, Found
from tests.crash.served_process import QUIET, up

START_US = 1_760_000_000_000_000
DEADLINE_S = 10
THREADS = 64


def payment(number):
    return {
        "id": f"p{number}",
        "at": START_US + number * 1_000_000,
        "card": f"c{number % 40}",
        "shop": None,
        "amount": number % 90 + 0.5,
        "device": None,
    }


@pytest.fixture
def root(tmp_path):
    return shutil.copytree(PROJECT, tmp_path / "cards", ignore=shutil.ignore_patterns("__pycache__"))


def settings(**serve):
    return Settings(engine=EngineSettings(durability="process"), serve=ServeSettings(**serve))


def check_whole(root, acknowledged):
    """Everything in the log is decided once, and all that was acknowledged is in it."""
    with ProjectReader.open_reader(store_path(root)) as reader:
        found, counters = Found.of(reader), reader.counters()
    ids = set(found.ids)
    assert found.decided.tolist() == found.event_positions.tolist(), "accepted, and not decided"
    assert len(found.ids) == len(ids) == counters["scored"], "an event was decided twice"
    assert acknowledged <= ids, f"{len(acknowledged - ids)} acknowledged events are lost"
    return ids


def test_from_64_threads_each_event_is_decided_once_and_each_request_answered(root):
    events = [payment(i) for i in range(960)]

    def ask(thread):
        """Every event comes from four threads, alone or with others."""
        with penstock.Client(served.url, timeout=60) as client:
            own = events[(thread % 16) * 60 : (thread % 16) * 60 + 60]
            size = (1, 7, 20, 60)[thread // 16]
            return [one for i in range(0, 60, size) for one in client.ingest("payments", own[i : i + size])]

    clock = ManualClock(START_US + 10**12)
    with (
        serving_project(root, settings=settings(), clock=clock) as served,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        answers = [one for part in pool.map(ask, range(THREADS)) for one in part]
    assert len(answers) == 4 * len(events)
    by_id = {}
    for one in answers:
        by_id.setdefault(one["event_id"], []).append(one)
    for found in by_id.values():
        assert sorted(one["status"] for one in found) == ["duplicate"] * 3 + ["scored"]
        assert len({(one["position"], one["action"]) for one in found}) == 1
    assert check_whole(root, set(by_id)) == {one["id"] for one in events}


def test_five_times_what_fits_is_refused_with_a_time_and_served_afterwards(root):
    waiting, refused, acknowledged = [], [], set()
    with serving_project(
        root, settings=settings(queue_events=40), clock=ManualClock(START_US + 10**12)
    ) as served:
        turn = threading.Event()
        served.runtime.process = held_up(served.runtime.process, turn)

        def ask(thread):
            own = [payment(thread * 100 + i) for i in range(20)]
            with penstock.Client(served.url, timeout=30, retries=False) as client:
                try:
                    acknowledged.update(one["event_id"] for one in client.ingest("payments", own))
                except OverloadError as error:
                    refused.append(error.retry_after_s)

        with ThreadPoolExecutor(12) as pool:
            asking = [pool.submit(ask, thread) for thread in range(12)]
            until = time.perf_counter() + 10
            while len(refused) < 8 and time.perf_counter() < until:
                waiting.append(served.platform.queue.events)
                time.sleep(0.01)
            turn.set()
            for one in asking:
                one.result()
        assert max(waiting) <= 40, "more waits than may"
        assert len(refused) >= 8, "two are processed at most, and two wait"
        assert len(acknowledged) == 20 * (12 - len(refused))
        assert min(refused) >= 1
        with penstock.Client(served.url) as client:  # which tries again by itself
            assert client.ingest("payments", payment(99_999))["status"] == "scored"
        assert served.platform.queue.events == 0
    check_whole(root, acknowledged)


def held_up(process, turn):
    """The engine, which waits with its first micro-batch."""

    def waiting(*arguments, **options):
        turn.wait(30)
        return process(*arguments, **options)

    return waiting


@pytest.fixture
def start(root):
    """Starts `penstock up` as a process, and says where it listens."""
    with ExitStack() as started:

        def begin():
            server = started.enter_context(up(root, root.parent / "stderr", **QUIET))
            return server.process, server.url

        yield begin


class Load:
    """Threads that send events until they are told to stop, or nobody answers."""

    def __init__(self, url, threads=8):
        self.acknowledged, self.failed, self._stop = set(), [], threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(url, i)) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def _send(self, url, thread):
        number = thread * 1_000_000
        with penstock.Client(url, timeout=20, retries=False) as client:
            while not self._stop.is_set():
                rows = [payment(number + i) for i in range(1 + number % 5)]
                number += len(rows)
                try:
                    answers = client.ingest("payments", rows)
                except PenstockError as error:
                    self.failed.append(error)
                    return
                self.acknowledged.update(one["event_id"] for one in answers)

    def wait_for(self, events):
        until = time.perf_counter() + 60
        while len(self.acknowledged) < events:
            assert time.perf_counter() < until, self.failed
            time.sleep(0.01)

    def end(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def test_killed_under_load_nothing_acknowledged_is_lost(root, start):
    acknowledged = set()
    for _ in range(2):
        process, url = start()
        load = Load(url)
        load.wait_for(300)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        load.end()
        acknowledged |= load.acknowledged
    process, url = start()
    again = sorted(acknowledged)[:500]
    with penstock.Client(url, timeout=60) as client:
        answers = client.ingest("payments", [payment(int(one[1:])) for one in again])
        assert {one["status"] for one in answers} == {"duplicate"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    check_whole(root, acknowledged)


def test_sigterm_under_load_ends_in_time_and_leaves_nothing_undecided(root, start):
    process, url = start()
    load = Load(url)
    load.wait_for(300)
    begun = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert time.perf_counter() - begun <= DEADLINE_S
    load.end()
    assert check_whole(root, load.acknowledged) >= load.acknowledged
    told = {type(error).__name__ for error in load.failed}
    assert told <= {"OverloadError", "UnreachableError", "DeadlineError", "StoreError"}, load.failed
