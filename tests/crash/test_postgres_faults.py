"""PostgreSQL stopped, and frozen, under a running engine: the commit waits and says so, nothing is lost, the state is exact."""

from __future__ import annotations

import random
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.postgres import Postgres
from tests import services
from tests.crash.engine_life import check_again, check_state, check_store, live, open_runtime, run_through
from tests.crash.feed import Feed

EVENTS = 1500


class OwnServer(Postgres):
    """A server that no other test uses."""

    name = "postgres_faults"
    default_port = 15439


@pytest.fixture(scope="module")
def server():
    services.needed(started := OwnServer())
    yield started
    started.thaw()
    started.stop()


def stopped(server, seconds):
    server.stop()
    time.sleep(seconds)
    server.start()


def frozen(server, seconds):
    server.freeze()
    time.sleep(seconds)
    server.thaw()


def through_a_fault(server, folder, fault, seconds):
    """A feed from its beginning to its end, with a fault on its way."""
    feed = Feed(5, EVENTS)
    whole = run_through(folder / "whole", feed, random.Random(1))
    root = folder / "faulty"
    root.mkdir()
    (root / "penstock.toml").write_text(
        f'[store]\nurl = "{server.address}"\nnamespace = "{secrets.token_hex(8)}"\nstatement_timeout_s = 1\n'
        "connect_timeout_s = 2\n"
    )
    runtime = open_runtime(root, feed)
    reached = [0]
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(live, runtime, feed, random.Random(2), reached.append)
        while reached[-1] < len(feed.units) // 3 and not running.done():
            time.sleep(0.001)
        seen, drained_s = _through(server, fault, seconds, running, runtime)
    assert any(seen), "nobody was told that the server was away"
    assert "store" not in runtime.problems
    assert check_store(runtime.store, feed, whole) == len(feed.units)
    check_state(runtime, whole)
    check_again(runtime, feed)
    runtime.close()
    return drained_s


def _through(server, fault, seconds, running, runtime):
    """What the problems said meanwhile, and how long it took to drain after it had healed."""
    seen = []
    faulty = threading.Thread(target=fault, args=(server, seconds))
    faulty.start()
    while faulty.is_alive():
        seen.append(runtime.problems.get("store"))
        time.sleep(0.05)
    healed = time.monotonic()
    running.result(60)
    return seen, time.monotonic() - healed


@pytest.mark.parametrize(("fault", "seconds"), [(stopped, 2), (frozen, 8)])
def test_the_engine_waits_for_a_server_that_is_away(server, tmp_path, fault, seconds):
    assert through_a_fault(server, tmp_path, fault, seconds) < 30


@pytest.mark.nightly
@pytest.mark.parametrize("fault", [stopped, frozen])
def test_the_engine_waits_a_minute(server, tmp_path, fault):
    assert through_a_fault(server, tmp_path, fault, 60) < 30
