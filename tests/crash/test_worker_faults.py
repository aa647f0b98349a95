"""A broker, and a database, stopped and frozen under a group of workers: they wait and say so, and go on with nothing lost and nothing double."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

pytest.importorskip("confluent_kafka")
from penstock.app.worker import worker_statuses
from services.kafka import Kafka
from services.postgres import Postgres
from tests import services
from tests.crash.worker_group import (
    PARTITIONS,
    Load,
    group,
    prepare,
    received,
    schemas,
    start,
    wait_for,
)
from tests.kafka_topics import new_topic

DRAINED_S = 30


class OwnBroker(Kafka):
    """A broker that no other test uses."""

    name = "kafka_faults"
    default_port = 19172


class OwnDatabase(Postgres):
    """A server that no other test uses."""

    name = "postgres_workers"
    default_port = 15442


def own(kind):
    services.needed(started := kind())
    yield started
    started.thaw()
    started.stop()


@pytest.fixture(scope="module")
def broker():
    yield from own(OwnBroker)


@pytest.fixture(scope="module")
def database():
    yield from own(OwnDatabase)


def stopped(server, seconds):
    server.stop()
    time.sleep(seconds)
    server.start()


def frozen(server, seconds):
    server.freeze()
    time.sleep(seconds)
    server.thaw()


def through_a_fault(root, broker, database, faulty, fault, seconds):
    """A group under load while one of its servers is away; what its status said meanwhile, and how long it drained."""
    topic = new_topic(broker.address, partitions=PARTITIONS)
    with schemas(database.address, statement_timeout_s=1, connect_timeout_s=2) as store:
        prepare(root, broker.address, topic, store=store)
        with group(root, 2) as (workers, _), Load(broker.address, topic) as load:
            time.sleep(2)
            seen = while_away(root, lambda: fault(faulty, seconds))
            healed = time.monotonic()
            time.sleep(1)
            load.finish()
            wait_for(lambda: received(root)[0].total() >= load.sent, DRAINED_S)
            drained_s = time.monotonic() - healed
            assert [one.poll() for one in workers] == [None, None], "a worker ended of itself"
            began = time.monotonic()
            for one in workers:
                one.send_signal(signal.SIGTERM)
            assert [one.wait(20) for one in workers] == [0, 0]
            assert time.monotonic() - began < 10
        ids, _ = received(root, final=True)
    assert ids.total() == len(ids) == load.sent, "0 lost, 0 double"
    sys.stdout.write(f"{load.sent} events; drained {drained_s:.1f} s after it was back; told: {seen}\n")
    return seen


def while_away(root, work):
    """What the workers say while `work` is done: problems by their kind, and whether they had shards."""
    thread, seen = threading.Thread(target=work), set()
    thread.start()
    while thread.is_alive():
        for one in worker_statuses(root):
            seen |= {what.rpartition(" ")[2] for what in one.problems} | (
                {"no shards"} if not one.shards else set()
            )
        time.sleep(0.2)
    thread.join()
    return seen


@pytest.mark.parametrize(("fault", "seconds"), [(stopped, 2), (frozen, 8)])
def test_workers_wait_for_a_database_that_is_away(tmp_path, broker, database, fault, seconds):
    assert "store" in through_a_fault(tmp_path, broker, database, database, fault, seconds)


@pytest.mark.parametrize(("fault", "seconds"), [(stopped, 3), (frozen, 6)])
def test_workers_wait_for_a_broker_that_is_away(tmp_path, broker, database, fault, seconds):
    told = through_a_fault(tmp_path, broker, database, broker, fault, seconds)
    assert told & {"payments", "no shards"}


def test_a_worker_that_cannot_reach_its_database_says_so_at_once(tmp_path, broker, database):
    topic = new_topic(broker.address, partitions=PARTITIONS)
    with schemas(database.address, connect_timeout_s=2) as store:
        prepare(tmp_path, broker.address, topic, store=store)
        database.stop()
        try:
            with (tmp_path / "workers.log").open("w") as log:
                assert start(tmp_path, log).wait(60) == 3
        finally:
            database.start()
    assert "Check that the server runs" in (tmp_path / "workers.log").read_text()


@pytest.mark.nightly
@pytest.mark.parametrize("fault", [stopped, frozen])
@pytest.mark.parametrize("which", ["broker", "database"])
def test_workers_wait_a_minute(tmp_path, broker, database, which, fault):
    faulty = broker if which == "broker" else database
    assert through_a_fault(tmp_path, broker, database, faulty, fault, 60)
