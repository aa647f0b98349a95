"""Workers that come, go and are killed while events flow: each event has one decision, and no partition waits long.

The short version runs always, over each kind of store; `make nightly` does fifty changes.
"""

import os
import random
import signal
import sys
import time
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("confluent_kafka")
from tests.crash.worker_group import (
    CLOCK,
    PARTITIONS,
    SESSION_S,
    Load,
    group,
    prepare,
    received,
    schemas,
    shared,
    start,
    wait_for,
    working,
)
from tests.kafka_topics import new_topic

GRACEFUL_S, KILLED_S = 3.0, SESSION_S + 3.0


@pytest.fixture(params=["sqlite", "postgres"])
def store(request):
    """What the settings say of the store."""
    if request.param == "sqlite":
        yield ""
    else:
        with schemas(request.getfixturevalue("postgres").address) as text:
            yield text


def scenario(root, address, rounds, seed, store):
    topic = new_topic(address, partitions=PARTITIONS)
    prepare(root, address, topic, store=store)
    chance, load, changes = random.Random(seed), Load(address, topic), []
    with group(root, 2) as (workers, log), load:
        for number in range(rounds):
            kind = ("start", "stop", "kill")[number % 3]
            if kind == "start":
                workers.append(start(root, log))
            else:
                one = workers.pop(chance.randrange(len(workers)))
                one.send_signal(signal.SIGTERM if kind == "stop" else signal.SIGKILL)
                one.wait(20)
            if len(workers) < 2 and kind == "kill":
                workers.append(start(root, log))
            changes.append((kind, CLOCK.now_us() / 1e6))
            wait_for(lambda: working(root, {w.pid for w in workers}))
            time.sleep(1)
        load.finish()
        wait_for(lambda: received(root)[0].total() >= load.sent)
    ids, times = received(root, final=True)
    return load.sent, ids, longest_gaps(times, changes)


def longest_gaps(times, changes):
    """The longest time without an event of any partition, near a kill and elsewhere."""
    longest = Counter()
    for taken in times.values():
        found = np.sort(np.concatenate([np.atleast_1d(t) for t in taken])) / 1e6
        for gap, at in zip(np.diff(found), found, strict=False):
            near = [kind for kind, when in changes if at - 1 <= when <= at + gap + 1]
            kind = "killed" if {"kill", "freeze"} & set(near) else "graceful"
            longest[kind] = max(longest[kind], float(gap))
    return longest


def check(sent, ids, longest):
    sys.stdout.write(f"longest gaps in seconds: {dict(longest)}; {sent} events\n")
    assert ids.total() == len(ids) == sent, "0 lost, 0 double"
    assert longest["graceful"] <= GRACEFUL_S
    assert longest["killed"] <= KILLED_S


def test_workers_change_while_events_flow(tmp_path, kafka, store):
    check(*scenario(tmp_path, kafka.address, rounds=3, seed=1, store=store))


@pytest.mark.nightly
def test_fifty_changes(tmp_path, kafka, store):
    seed = int(os.environ.get("SEED", "7"))
    check(*scenario(tmp_path, kafka.address, rounds=50, seed=seed, store=store))


def test_the_shards_of_a_frozen_worker_go_on_and_it_writes_nothing_when_it_thaws(tmp_path, kafka, postgres):
    with schemas(postgres.address) as store:
        check(*frozen_and_thawed(tmp_path, kafka.address, store))


def frozen_and_thawed(root, address, store):
    topic = new_topic(address, partitions=PARTITIONS)
    prepare(root, address, topic, store=store)
    load = Load(address, topic)
    with group(root, 2) as (workers, _), load:
        time.sleep(2)
        frozen, other = workers
        frozen.send_signal(signal.SIGSTOP)
        changes = [("freeze", CLOCK.now_us() / 1e6)]
        wait_for(lambda: working(root, {other.pid}))
        time.sleep(1)
        frozen.send_signal(signal.SIGCONT)
        changes.append(("freeze", CLOCK.now_us() / 1e6))
        wait_for(lambda: working(root, {frozen.pid, other.pid}) and shared(root, workers))
        load.finish()
        wait_for(lambda: received(root)[0].total() >= load.sent)
        assert [one.poll() for one in workers] == [None, None], "a worker ended of itself"
    ids, times = received(root, final=True)
    return load.sent, ids, longest_gaps(times, changes)
