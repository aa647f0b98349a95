"""Workers of a group as processes of their own, a steady load of events for them, and what has become of each event."""

import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager

import numpy as np

from penstock.app.runtime import open_reader
from penstock.app.worker import worker_statuses
from penstock.core.clock import SystemClock
from penstock.kernel.columns import Columns

CLOCK = SystemClock()
PARTITIONS, RATE, SESSION_S = 4, 300, 3
STARTED_S = 90
STACKS_S, LOG_CHARACTERS = 1, 20_000
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
        self.delivered = False

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.finish()

    def finish(self):
        """Send no more."""
        self.ended.set()
        self.join()
        assert self.delivered, "the load could not be sent"

    def run(self):
        from confluent_kafka import Producer

        producer = Producer(
            {"bootstrap.servers": self.address, "linger.ms": 2, "log_level": 2, "enable.idempotence": True}
        )
        began = time.monotonic()
        while not self.ended.is_set():
            while self.sent < (time.monotonic() - began) * RATE:
                event = {"id": f"e{self.sent}", "card": f"c{self.sent % 97}", "amount": 1.5}
                event["shop"] = f"s{self.sent % 31}"
                event["at"] = CLOCK.now_us()
                producer.produce(
                    self.topic, json.dumps(event), event["card"], partition=self.sent % PARTITIONS
                )
                self.sent += 1
            producer.poll(0)
            time.sleep(0.005)
        self.delivered = producer.flush(30) == 0


WORKER = """
import faulthandler, signal
faulthandler.enable()  # a crash tells where
faulthandler.register(signal.SIGUSR1)  # asked for it, a worker writes what each of its threads is at
from penstock.cli.main import app
app()
"""


def start(root, log):
    command = [sys.executable, "-c", WORKER, "worker", "--project", str(root)]
    return subprocess.Popen(command, stdout=log, stderr=log)


@contextmanager
def group(root, count, *, shards=PARTITIONS):
    """A list of so many workers, once they have all shards; whoever is in it at the end is stopped."""
    workers = []
    with (root / "workers.log").open("w") as log:
        try:
            workers += [start(root, log) for _ in range(count)]
            wait_for(lambda: begun(root, workers, shards=shards), STARTED_S)
            yield workers, log
        except AssertionError as error:
            error.add_note(state_of(root, workers))
            raise
        finally:
            for one in workers:
                one.send_signal(signal.SIGCONT)
                one.send_signal(signal.SIGTERM)
            for one in workers:
                one.wait(30)


def state_of(root, workers):
    """What the workers say of themselves, what their threads are at, and the end of what they have written."""
    for one in workers:
        if one.poll() is None:
            one.send_signal(signal.SIGCONT)
            one.send_signal(signal.SIGUSR1)
    time.sleep(STACKS_S)
    told = [f"  {one}" for one in worker_statuses(root)] or ["  nothing"]
    ended = [f"  worker {one.pid} ended with {one.returncode}" for one in workers if one.poll() is not None]
    text = (root / "workers.log").read_text(errors="replace")[-LOG_CHARACTERS:]
    return "\n".join(["workers say:", *told, *ended, "the end of workers.log:", text])


def prepare(root, address, topic, *, store="", definitions=DEFINITIONS):
    """A project over the topic; `store` is what its settings say of the store."""
    (root / "penstock.toml").write_text(
        f'[project]\nname = "{topic}"\n[engine]\ndurability = "process"\n{store}'
    )
    (root / "definitions.py").write_text(
        definitions.format(address=address, topic=topic, session=SESSION_S * 1000)
    )


@contextmanager
def schemas(url, **more):
    """Settings of a store in PostgreSQL, whose schemas are dropped at the end."""
    from psycopg import connect, sql

    name = f"test_{secrets.token_hex(6)}"
    rest = "".join(f"{key} = {value}\n" for key, value in more.items())
    try:
        yield f'[store]\nurl = "{url}"\nnamespace = "{name}"\n{rest}'
    finally:
        with closing(connect(url, autocommit=True)) as connection:
            made = "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)"
            for (schema,) in connection.execute(made, [name]).fetchall():
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def working(root, pids, *, shards=PARTITIONS):
    statuses = [one for one in worker_statuses(root) if one.pid in pids]
    return sum(len(one.shards) for one in statuses) == shards and len(statuses) == len(pids)


def begun(root, workers, *, shards):
    """Whether they work on all shards; none may end on the way there."""
    assert [one.poll() for one in workers] == [None] * len(workers), "a worker ended of itself"
    return working(root, {one.pid for one in workers}, shards=shards)


def shared(root, workers):
    """Whether each of the workers has a shard."""
    pids = {one.pid for one in worker_statuses(root) if one.shards}
    return pids == {one.pid for one in workers}


def wait_for(ready, seconds=40):
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "the workers do not come to rest"
        time.sleep(0.05)


def check_decided(reader):
    decided = np.concatenate([np.zeros(0, np.int64), *(one.positions for one in reader.read_decisions())])
    assert len(np.unique(decided)) == len(decided) == reader.next_position


def received(root, *, final=False, stage=""):
    """Ids of the decided events of all shards, and by shard the times at which their rows were taken."""
    ids, times = Counter(), {}
    for number in range(PARTITIONS):
        with open_reader(root, f"{stage}{number}") as reader:
            if final:
                check_decided(reader)
            for batch in reader.read_log():
                column = Columns.from_bytes(batch.payload)["id"]
                text = bytes(column.data)
                ids.update(text[a:b] for a, b in zip(column.offsets[:-1], column.offsets[1:], strict=True))
                times.setdefault(number, []).append(batch.ingest_time_us)
    return ids, times
