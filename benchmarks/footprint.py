"""What an event leaves behind: bytes of memory, of each store and of Kafka, seconds to start again, and whose processor it took.

`python -m benchmarks.footprint EVENTS MODEL OUTPUT WHERE` is one run, in a child process; WHERE is sqlite, postgres or kafka. `benchmarks.capacity`
makes the tables of docs/scaling.md of it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.contest import Contest, Contestant, hold
from benchmarks.events import events_file, model_file, prefix_file
from benchmarks.kafka import KEYS, Seen, drop_schemas
from benchmarks.kafka_feed import PARTITIONS, fill, new_topic
from benchmarks.machine import versions_of
from benchmarks.process import ROOT
from benchmarks.project import make_payments, open_payments
from benchmarks.result import Figure, Result
from benchmarks.stream import feed, output_of
from services import SERVICES

if TYPE_CHECKING:
    from penstock.app import Runtime

EVENTS = 600_000
WORD = 8
NAMESPACE = "benchmark_footprint"
KAFKA_NAMESPACE = "benchmark_kafka"
WHERE = ("sqlite", "postgres", "kafka")
WHAT = (
    "The stream benchmark's payments and model: two views of six features over 1, 7 and 30 days, a decision with its vector for each event. Memory and disk "
    "of 5,000 cards and 10,000 terminals, whose windows are full (300,000 events in 30 days); Redis: the states of all keys as a replica reads them. "
    "Starting again: the project closed and opened, from its snapshot or by folding the whole log, in the process that had it. Kafka: one worker with two stages "
    "(by card, then by terminal) of four shards, JSON, the database and the broker on the same two cores; CPU seconds of each, from the first micro-batch to the last commit."
)
UNITS = {
    "state bytes a row": "bytes",
    "state bytes a key": "bytes",
    "state MB": "MB",
    "snapshot bytes a row": "bytes",
    "snapshot encoded": "MB/s",
    "store, bytes an event": "bytes",
    "ids on disk, bytes an event": "bytes",
    "batches, bytes an event": "bytes",
    "decision rows, bytes an event": "bytes",
    "their indexes, bytes an event": "bytes",
    "Redis bytes a key": "bytes",
    "start from a snapshot": "s",
    "fold of a million events": "s",
    "Kafka bytes an event": "bytes",
    "through both stages": "events/s",
    "worker, CPU": "µs/event",
    "database, CPU": "µs/event",
    "broker, CPU": "µs/event",
}
"""What is measured, with its unit."""


def run_store(events: Path, model: Path, output: Path) -> dict[str, float]:
    """The events through one engine; what they left in memory and in the store, and how long it takes to start again."""
    from penstock.app import Runtime

    drop_schemas([NAMESPACE])
    folder = output.with_suffix(".project")
    runtime = open_payments(folder, model=model, durability="process")
    with events.open("rb") as file:
        count = sum(1 for _ in file)
    feed(runtime, events, count)
    runtime.engine.flush()
    found = {"events": float(count)} | _state(runtime)
    if not runtime.settings.store.url:
        found["Redis bytes a key"] = _redis(runtime)
    runtime.close()
    found |= _database(NAMESPACE, count) if runtime.settings.store.url else _files(folder, count)
    found["start from a snapshot"] = _seconds(lambda: Runtime.open(folder))
    found["fold of a million events"] = (
        _seconds(lambda: Runtime.open(folder, rebuild=True)) * 1_000_000 / count
    )
    return found


def _state(runtime: Runtime) -> dict[str, float]:
    """What the views hold, and what a snapshot of it costs."""
    from penstock.kernel.program import RECORD

    views = runtime.engine.features.views
    stats = [view.stats for view in views]
    nodes = runtime.plan.views
    records = [WORD * int(node.program.encode()[RECORD]) for node in nodes]
    rows, nbytes = sum(one.rows for one in stats), sum(one.nbytes for one in stats)
    keys = sum(one.keys for one in stats)
    of_keys = sum(one.keys * record for one, record in zip(stats, records, strict=True))
    began = time.perf_counter()
    _, encoded = runtime.engine.encoded()
    took = time.perf_counter() - began
    return {
        "state bytes a row": (nbytes - of_keys) / rows,
        "state bytes a key": of_keys / keys,
        "state MB": nbytes / 1e6,
        "snapshot bytes a row": len(encoded) / rows,
        "snapshot encoded": len(encoded) / 1e6 / took,
    }


def _redis(runtime: Runtime) -> float:
    """Bytes that Redis has more, by key, once all states are published."""
    import redis

    from penstock.app.publishing import TIMEOUT_S
    from penstock.engine.publishing import Publisher
    from penstock.stores.redis_blobs import RedisBlobs

    url = SERVICES["redis"].address
    with redis.Redis.from_url(url) as server:
        blobs, name = RedisBlobs(url, timeout_s=TIMEOUT_S), f"bench-{secrets.token_hex(8)}"
        before = int(server.info("memory")["used_memory"])
        publisher = Publisher(
            runtime.engine,
            store_id=runtime.store.store_id,
            wait_until_durable=lambda _: None,
            blobs=blobs,
            namespace=name,
            clock=runtime.clock,
        )
        while publisher.step():
            pass
        after = int(server.info("memory")["used_memory"])
        for names in blobs.names(f"penstock:{name}:".encode()):
            blobs.delete(names, 1 << 52)
        blobs.close()
    return (after - before) / sum(view.stats.keys for view in runtime.engine.features.views)


def _files(folder: Path, count: int) -> dict[str, float]:
    """Bytes an event in the folder of a project that is closed."""
    state = folder / ".penstock"
    store = sum(path.stat().st_size for path in state.glob("penstock.db*"))
    ids = sum(path.stat().st_size for path in (state / "ids").rglob("*") if path.is_file())
    return {"store, bytes an event": store / count, "ids on disk, bytes an event": ids / count}


def _database(namespace: str, count: int) -> dict[str, float]:
    """Bytes an event in PostgreSQL, in all schemas whose names begin so: the log and the decisions as batches, and the decisions as rows."""
    import psycopg

    query = """
        SELECT coalesce(sum(pg_total_relation_size(c.oid)) FILTER (WHERE c.relname = 'batches'), 0),
               coalesce(sum(pg_table_size(c.oid)) FILTER (WHERE c.relname LIKE 'decisions%%'), 0),
               coalesce(sum(pg_indexes_size(c.oid)) FILTER (WHERE c.relname LIKE 'decisions%%'), 0)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE starts_with(n.nspname, %s) AND c.relkind = 'r'
    """
    with psycopg.connect(os.environ["PENSTOCK_STORE__URL"]) as connection:
        row = connection.execute(query, [namespace]).fetchone()
    assert row is not None
    batches, rows, indexes = (float(one) / count for one in row)
    return {
        "store, bytes an event": batches + rows + indexes,
        "batches, bytes an event": batches,
        "decision rows, bytes an event": rows,
        "their indexes, bytes an event": indexes,
    }


def _seconds(opened: Callable[[], Runtime]) -> float:
    began = time.perf_counter()
    runtime = opened()
    took = time.perf_counter() - began
    runtime.close(snapshot=False)
    return took


class _Processors:
    """CPU seconds so far of this process and of the servers."""

    def __init__(self) -> None:
        self.at_s, self.worker = time.monotonic(), time.process_time()
        self.servers = {name: _cpu_of(name) for name in ("postgres", "kafka")}


def _cpu_of(name: str) -> float:
    """CPU seconds of a server and its children, those that ended included."""
    pid = int(SERVICES[name].pid_file.read_text().split()[0])
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    spent = [one.cpu_times() for one in family]
    own = sum(one.user + one.system for one in spent)
    return float(own + spent[0].children_user + spent[0].children_system)


class _Stamped(Event):
    """An event that notes the processors when it is set."""

    at: _Processors

    def set(self) -> None:
        """Note, then set."""
        self.at = _Processors()
        super().set()


class _Metered(Seen):
    """What becomes of micro-batches, with the processors at the first and when all is durable."""

    def __init__(self, expected: int) -> None:
        super().__init__(expected)
        self.done: _Stamped = _Stamped()
        self.first: _Processors | None = None

    def observing(self, runtime: Runtime) -> Callable[[Any, float], None]:
        note = super().observing(runtime)

        def metered(processed: Any, started_s: float) -> None:
            self.first = self.first or _Processors()
            note(processed, started_s)

        return metered


def run_kafka(events: Path, model: Path, output: Path) -> dict[str, float]:
    """A topic that was filled before through one worker into PostgreSQL: bytes on the broker's disk, and CPU of each."""
    from penstock.app.worker import Worker

    drop_schemas([f"{KAFKA_NAMESPACE}_{key}-{number}" for key in KEYS for number in range(PARTITIONS)])
    folder, topic = output.with_suffix(".project"), new_topic("footprint")
    stream = f'KafkaConfig("{SERVICES["kafka"].address}", "{topic}", key_field="{KEYS[0]}")'
    make_payments(folder, model=model, durability="power", stream=stream)
    count = fill(topic, events, value_format="json")
    seen = _Metered(count)
    worker = Worker(folder, group=topic, observing=seen.observing)
    worker.run(seen.done)
    assert seen.first is not None
    data = SERVICES["kafka"].folder / "data"
    on_disk = sum(path.stat().st_size for path in data.glob(f"{topic}-*/*.log"))
    begin, end = seen.first, seen.done.at
    spent = {
        "worker, CPU": end.worker - begin.worker,
        "database, CPU": end.servers["postgres"] - begin.servers["postgres"],
        "broker, CPU": end.servers["kafka"] - begin.servers["kafka"],
    }
    return {
        "events": float(count),
        "Kafka bytes an event": on_disk / count,
        "through both stages": count / (end.at_s - begin.at_s),
        **_database(KAFKA_NAMESPACE, count),
        **{name: seconds * 1e6 / count for name, seconds in spent.items()},
    }


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """One run of each kind."""
    for name in ("postgres", "redis", "kafka"):
        SERVICES[name].install()
        SERVICES[name].start()
    whole = events_file(int(EVENTS * scale))
    contest = hold([_contestant(whole, where, int(EVENTS * scale)) for where in WHERE], say)
    return Result(
        benchmark="footprint",
        what=WHAT,
        figures=tuple(_figures(contest)),
        bars=(),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "confluent-kafka", "psycopg", "redis", "numpy", "numba"),
    )


def _contestant(whole: Path, where: str, events: int) -> Contestant:
    def command() -> list[str | Path]:
        inputs = [prefix_file(whole, events), model_file()]
        return [sys.executable, "-m", "benchmarks.footprint", *inputs, output_of(f"footprint-{where}"), where]

    namespace = KAFKA_NAMESPACE if where == "kafka" else NAMESPACE
    store = {"PENSTOCK_STORE__URL": SERVICES["postgres"].address, "PENSTOCK_STORE__NAMESPACE": namespace}
    if where == "kafka":
        store["PENSTOCK_KAFKA__REPARTITION_BY"] = json.dumps(KEYS[1:])
    return Contestant(where, command, events=events, environment={} if where == "sqlite" else store)


def _figures(contest: Contest) -> list[Figure]:
    """Each figure of each run, by where and what."""
    return [
        Figure(
            f"{where}: {what}", unit, run.report[what], (run.report[what],), events=int(run.report["events"])
        )
        for where in WHERE
        for run in contest.runs.get(where, [])
        for what, unit in UNITS.items()
        if what in run.report
    ]


if __name__ == "__main__":
    file, model, output = map(Path, sys.argv[1:4])
    os.chdir(ROOT)
    run = run_kafka if sys.argv[4] == "kafka" else run_store
    print(json.dumps(run(file, model, output)))
