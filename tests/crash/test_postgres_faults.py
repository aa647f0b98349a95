"""PostgreSQL stopped, and frozen, under a running engine: the commit waits and says so, nothing is lost, the state is exact."""

from __future__ import annotations

import random
import threading
import time

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
        f'[store]\nurl = "{server.address}"\nnamespace = "{fault.__name__}_{seconds}"\nstatement_timeout_s = 1\n'
        "connect_timeout_s = 2\n"
    )
    runtime = open_runtime(root, feed)
    done, acknowledged, seen = threading.Event(), [0], []

    def run():
        live(runtime, feed, random.Random(2), lambda stop: acknowledged.__setitem__(0, stop))
        done.set()

    running = threading.Thread(target=run)
    running.start()
    while acknowledged[0] < len(feed.units) // 3:
        time.sleep(0.001)
    faulty = threading.Thread(target=fault, args=(server, seconds))
    faulty.start()
    while faulty.is_alive():
        seen.append(runtime.problems.get("store"))
        time.sleep(0.05)
    healed = time.monotonic()
    assert done.wait(60), runtime.problems
    running.join()
    drained_s = time.monotonic() - healed
    assert any(seen), "nobody was told that the server was away"
    assert runtime.problems == {}
    assert check_store(runtime.store, feed, whole) == len(feed.units)
    check_state(runtime, whole)
    check_again(runtime, feed)
    runtime.close()
    return drained_s


@pytest.mark.parametrize(("fault", "seconds"), [(stopped, 2), (frozen, 8)])
def test_the_engine_waits_for_a_server_that_is_away(server, tmp_path, fault, seconds):
    assert through_a_fault(server, tmp_path, fault, seconds) < 30


@pytest.mark.nightly
@pytest.mark.parametrize("fault", [stopped, frozen])
def test_the_engine_waits_a_minute(server, tmp_path, fault):
    assert through_a_fault(server, tmp_path, fault, 60) < 30
