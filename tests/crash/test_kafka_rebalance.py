"""Workers that come, go and are killed while events flow: each event has one decision, and no partition waits long.

The short version runs always; `make nightly` does fifty changes.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest

from penstock.app.runtime import open_reader
from penstock.app.worker import worker_statuses
from penstock.core.clock import SystemClock
from penstock.kernel.columns import Columns

pytest.importorskip("confluent_kafka")
from tests.kafka_topics import new_topic

CLOCK = SystemClock()
PARTITIONS, RATE, SESSION_S = 4, 300, 3
GRACEFUL_S, KILLED_S = 3.0, SESSION_S + 3.0
DEFINITIONS = """
from datetime import timedelta
from penstock import Aggregate, Endpoint, Entity, FeatureService, KafkaConfig, LabelSource, Model, Policy
from penstock import StreamFeatureView, StreamSource, TimeSplit
from penstock.types import Bool, Field, Float64, String, Timestamp

payments = StreamSource("payments", KafkaConfig("{address}", "{topic}", options={{"session.timeout.ms": "{session}"}}),
    schema=[Field("id", String), Field("card", String), Field("at", Timestamp), Field("amount", Float64)], event_id_field="id")
card = Entity("card", join_keys=[Field("card", String)])
spending = StreamFeatureView("spending", source=payments, entities=[card],
    features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(hours=1))])
features = FeatureService("features", features=[spending])


class NoEstimator:
    def fit(self): ...

    def predict(self): ...

    def get_params(self): ...


frauds = LabelSource("frauds", of=payments, label=Field("is_fraud", Bool), known_at="known_at")
model = Model("fraud", features=features, label=frauds, estimator=NoEstimator(),
    split=TimeSplit(train=timedelta(hours=1), delay=timedelta(0), test=timedelta(hours=1)))
checkout = Endpoint("checkout", source=payments, model=model, policy=Policy("card", actions={{"block": 0.5}}))
"""


class Load(threading.Thread):
    """Events at a steady rate, over all partitions."""

    def __init__(self, address, topic):
        super().__init__(daemon=True)
        self.address, self.topic, self.sent, self.ended = address, topic, 0, threading.Event()

    def run(self):
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 2})
        began = time.monotonic()
        while not self.ended.is_set():
            while self.sent < (time.monotonic() - began) * RATE:
                event = {"id": f"e{self.sent}", "card": f"c{self.sent % 97}", "amount": 1.5}
                event["at"] = CLOCK.now_us()
                producer.produce(
                    self.topic, json.dumps(event), event["card"], partition=self.sent % PARTITIONS
                )
                self.sent += 1
            producer.poll(0)
            time.sleep(0.005)
        assert producer.flush(30) == 0


def start(root, log):
    command = [
        sys.executable,
        "-c",
        "from penstock.cli.main import app; app()",
        "worker",
        "--project",
        str(root),
    ]
    return subprocess.Popen(command, stdout=log, stderr=log)


def working(root, pids):
    statuses = [one for one in worker_statuses(root) if one.pid in pids]
    return sum(len(one.shards) for one in statuses) == PARTITIONS and len(statuses) == len(pids)


def wait_for(ready, seconds=40):
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "the workers do not come to rest"
        time.sleep(0.05)


def check_decided(reader):
    decided = np.concatenate([np.zeros(0, np.int64), *(one.positions for one in reader.read_decisions())])
    assert len(np.unique(decided)) == len(decided) == reader.next_position


def received(root, *, final=False):
    """Ids of the decided events of all shards, and by shard the times at which their rows were taken."""
    ids, times = Counter(), {}
    for number in range(PARTITIONS):
        with open_reader(root, str(number)) as reader:
            if final:
                check_decided(reader)
            for batch in reader.read_log():
                column = Columns.from_bytes(batch.payload)["id"]
                text = bytes(column.data)
                ids.update(text[a:b] for a, b in zip(column.offsets[:-1], column.offsets[1:], strict=True))
                times.setdefault(number, []).append(batch.ingest_time_us)
    return ids, times


def scenario(root, address, rounds, seed):
    topic = new_topic(address, partitions=PARTITIONS)
    (root / "penstock.toml").write_text('[project]\nname = "shop"\n[engine]\ndurability = "process"\n')
    (root / "definitions.py").write_text(
        DEFINITIONS.format(address=address, topic=topic, session=SESSION_S * 1000)
    )
    chance, load, workers, longest = random.Random(seed), Load(address, topic), [], Counter()
    changes = []
    with (root / "workers.log").open("w") as log:
        try:
            workers += [start(root, log) for _ in range(2)]
            wait_for(lambda: working(root, {w.pid for w in workers}))
            load.start()
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
            load.ended.set()
            load.join()
            wait_for(lambda: received(root)[0].total() >= load.sent)
        finally:
            load.ended.set()
            for one in workers:
                one.send_signal(signal.SIGTERM)
            for one in workers:
                one.wait(20)
    ids, times = received(root, final=True)
    for taken in times.values():
        found = np.sort(np.concatenate([np.atleast_1d(t) for t in taken])) / 1e6
        for gap, at in zip(np.diff(found), found, strict=False):
            near = [kind for kind, when in changes if at - 1 <= when <= at + gap + 1]
            longest["killed" if "kill" in near else "graceful"] = max(
                longest["killed" if "kill" in near else "graceful"], float(gap)
            )
    return load.sent, ids, longest


def check(sent, ids, longest):
    sys.stdout.write(f"longest gaps in seconds: {dict(longest)}; {sent} events\n")
    assert ids.total() == len(ids) == sent, "0 lost, 0 double"
    assert longest["graceful"] <= GRACEFUL_S
    assert longest["killed"] <= KILLED_S


def test_workers_change_while_events_flow(tmp_path, kafka):
    check(*scenario(tmp_path, kafka.address, rounds=3, seed=1))


@pytest.mark.nightly
def test_fifty_changes(tmp_path, kafka):
    seed = int(os.environ.get("SEED", "7"))
    check(*scenario(tmp_path, kafka.address, rounds=50, seed=seed))
