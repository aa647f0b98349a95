"""Kafka → a worker: features, XGBoost, decision → PostgreSQL, or SQLite beside it, broker and database on the same machine.

`python -m benchmarks.kafka EVENTS MODEL OUTPUT MODE` is one run, in a child process; MODE is json, avro or latency.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contest import Contest, Contestant, hold
from benchmarks.events import events_file, model_file, prefix_file
from benchmarks.kafka_feed import PARTITIONS, fill, new_topic, schema_registry
from benchmarks.machine import versions_of
from benchmarks.process import ROOT, peak_mb
from benchmarks.project import SOURCE, make_payments
from benchmarks.result import Agreement, Bar, Figure, Result, find
from benchmarks.stream import output_of
from penstock.core.clock import SystemClock
from services import SERVICES

if TYPE_CHECKING:
    from concurrent.futures import Future

    from penstock.app.runtime import Runtime
    from penstock.app.worker import WorkerStatus
    from penstock.engine.local import Processed

CLOCK = SystemClock()
EVENTS = 300_000
NAMESPACE = "benchmark_kafka"
KEYS = ("card_id", "terminal_id")
"""By which events are parted, one stage after the other; the last one decides."""
RATE, SECONDS, WARM_S = 500, 25.0, 5.0
LIMITS_MS = {"p50": 20, "p99": 100}
WHAT = (
    "The stream benchmark's payments and model, from a topic of four partitions keyed by card, through one worker with two stages of four shards "
    "each: windows by card, committed and sent on by terminal through another topic; windows by terminal → XGBoost → decision and vector committed. "
    "Durability power, broker and PostgreSQL on the same two cores. Throughput: a topic that was filled before, from the first event taken to the "
    "last commit. Latency: 500 events a second in an open loop, from when each was due to be produced to its committed decision; the first five "
    "seconds warm up."
)


class Seen:
    """What becomes of micro-batches: how many events are durable, until when, and how old each was by then."""

    def __init__(self, expected: int) -> None:
        self.done = Event()
        self.began: float | None = None
        self.ended = 0.0
        self.ages_us: list[np.ndarray] = []
        self._left = expected
        self._lock = Lock()

    def observing(self, runtime: Runtime) -> Callable[[Processed, float], None]:
        """What is called with each micro-batch of a shard."""
        return self._decided if runtime.shard.startswith(KEYS[-1]) else self._begin

    def _begin(self, _: Processed, started_s: float) -> None:
        self.began = started_s if self.began is None else self.began

    def _decided(self, processed: Processed, started_s: float) -> None:
        self._begin(processed, started_s)
        times = [one.admitted.columns["event_time"].values for one in processed.outcomes]  # type: ignore[union-attr]

        def durable(done: Future[None]) -> None:
            done.result()
            now_us = CLOCK.now_us()
            with self._lock:
                self.ended = time.monotonic()
                self.ages_us += [now_us - one for one in times]
                self._left -= sum(map(len, times))
                if self._left <= 0:
                    self.done.set()

        processed.committed.add_done_callback(durable)


def run(events: Path, model: Path, output: Path, *, mode: str) -> dict[str, Any]:
    """One run over new shards and a new topic."""
    from penstock.app.worker import Worker

    drop_schemas([f"{NAMESPACE}_{key}-{number}" for key in KEYS for number in range(PARTITIONS)])
    folder, topic = output.with_suffix(".project"), new_topic("benchmark")
    with ExitStack() as open_until_end:
        registry = open_until_end.enter_context(schema_registry())
        more = f', value_format="avro", schema_registry_url="{registry}"' if mode == "avro" else ""
        stream = f'KafkaConfig("{SERVICES["kafka"].address}", "{topic}", key_field="{KEYS[0]}"{more})'
        make_payments(folder, model=model, durability="power", stream=stream)
        count = int(RATE * SECONDS) if mode == "latency" else fill(topic, events, value_format=mode)
        seen = Seen(count)
        worker = Worker(folder, group=topic, observing=seen.observing)
        if mode == "latency":
            worker.run(seen.done, watch=_feeding(events, topic))
        else:
            worker.run(seen.done)
    _export(folder, output)
    report = {"events": count, "seconds": seen.ended - (seen.began or 0.0), "peak_mb": peak_mb()}
    if mode == "latency":
        ages = np.concatenate(seen.ages_us)[int(RATE * WARM_S) :] / 1e3
        report |= {name: float(np.percentile(ages, float(name[1:]))) for name in LIMITS_MS}
    return report


def _feeding(events: Path, topic: str) -> Callable[[WorkerStatus], None]:
    """Starts the feeder once the worker has all its shards."""
    feeder: list[subprocess.Popen[bytes]] = []

    def watch(status: WorkerStatus) -> None:
        if len(status.shards) == len(KEYS) * PARTITIONS and not feeder:
            command = [sys.executable, "-m", "benchmarks.kafka_feed", str(events), topic]
            command += [str(RATE), str(SECONDS)]
            feeder.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL))

    return watch


def drop_schemas(names: Sequence[str]) -> None:
    """Drop these schemas of the database that ``PENSTOCK_STORE__URL`` names, if it names one."""
    url = os.environ.get("PENSTOCK_STORE__URL")
    if url is not None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(url, autocommit=True) as connection:
            for name in names:
                connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))
            connection.execute("CHECKPOINT")


def _export(folder: Path, output: Path) -> None:
    """Ids of all events in order, each with its score and vector as bits."""
    from penstock.app.runtime import open_reader, plan_of
    from penstock.definitions.project import load_project
    from penstock.engine.decisions import Decisions
    from penstock.engine.lookup import RowReader

    plan = plan_of(load_project(folder))
    ids: list[str | None] = []
    values = []
    for number in range(PARTITIONS):
        with open_reader(folder, f"{KEYS[-1]}-{number}") as store:
            rows = RowReader(store, plan.sources)
            for batch in store.read_decisions():
                decided = Decisions.from_bytes(batch.payload)
                ids += rows.events(SOURCE, batch.positions)["event_id"].to_strings()  # type: ignore[union-attr]
                values.append(np.column_stack([decided.scores, decided.vectors]))
    order = np.argsort(np.array(ids))
    np.savez(output.with_suffix(".npz"), ids=np.array(ids)[order], values=np.concatenate(values)[order])


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """Both formats and stores in turn, then the latency over each store."""
    for name in ("kafka", "postgres"):
        SERVICES[name].install()
        SERVICES[name].start()
    whole = events_file(int(EVENTS * scale))
    names = [f"{mode}, {store}" for mode in ("JSON", "Avro", "latency") for store in ("PostgreSQL", "SQLite")]
    contestants = [_contestant(whole, name, scale) for name in names]
    contest = hold(contestants, say)
    figures = contest.figures(
        "events/s", lambda run: run.report["events"] / run.report["seconds"], contestants[:4]
    )
    latencies = [figure for one in contestants[4:] for figure in _latencies(contest, one)]
    return Result(
        benchmark="kafka",
        what=WHAT,
        figures=(*figures, *latencies),
        bars=(
            *(_bar(figures, f"{mode}, PostgreSQL", 20_000, "/s") for mode in ("JSON", "Avro")),
            *(
                _bar(latencies, f"latency, PostgreSQL, {name}", limit, "ms")
                for name, limit in LIMITS_MS.items()
            ),
        ),
        agreements=tuple(
            _agreement(name, "JSON, SQLite")
            for name in names[:3]
            if name in contest.runs and "JSON, SQLite" in contest.runs
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions_of(
            "penstock", "confluent-kafka", "fastavro", "psycopg", "numpy", "numba", "xgboost-cpu"
        ),
    )


def _contestant(whole: Path, name: str, scale: float) -> Contestant:
    mode, _, store = name.partition(", ")

    def command() -> list[str | Path]:
        inputs = [prefix_file(whole, int(EVENTS * scale)), model_file()]
        return [sys.executable, "-m", "benchmarks.kafka", *inputs, _output(name), mode.lower()]

    url = {"PENSTOCK_STORE__URL": SERVICES["postgres"].address, "PENSTOCK_STORE__NAMESPACE": NAMESPACE}
    return Contestant(
        name,
        command,
        events=int(RATE * SECONDS) if mode == "latency" else int(EVENTS * scale),
        environment={"PENSTOCK_KAFKA__REPARTITION_BY": json.dumps(KEYS[1:])}
        | (url if store == "PostgreSQL" else {}),
    )


def _latencies(contest: Contest, contestant: Contestant) -> list[Figure]:
    runs = contest.runs.get(contestant.name, [])
    return [
        Figure.median(
            f"{contestant.name}, {name}", "ms", [run.report[name] for run in runs], events=contestant.events
        )
        for name in LIMITS_MS
        if runs
    ]


def _bar(figures: list[Figure], name: str, limit: float, unit: str) -> Bar:
    found = find(figures, name)
    value = None if found is None else found.value
    what = name if unit == "ms" else f"events/s, {name}"
    return Bar(what, value, limit, unit, at_most=unit == "ms")


def _output(contestant: str) -> Path:
    return output_of(f"kafka-{contestant}")


def _agreement(contestant: str, reference: str) -> Agreement:
    """Ids, scores and vectors bit for bit."""
    (ids, found), (expected_ids, expected) = (
        (file["ids"], file["values"])
        for file in (np.load(_output(one).with_suffix(".npz")) for one in (contestant, reference))
    )
    if not np.array_equal(ids, expected_ids):
        return Agreement(contestant, reference, rows=len(ids), differing=len(ids), largest_difference=np.inf)
    differing = (found.view(np.int64) != expected.view(np.int64)).any(axis=1)
    largest = float(np.abs(found - expected).max(initial=0.0))
    return Agreement(
        contestant, reference, rows=len(ids), differing=int(differing.sum()), largest_difference=largest
    )


if __name__ == "__main__":
    file, model, output, mode = sys.argv[1:]
    print(json.dumps(run(*map(Path, (file, model, output)), mode=mode)))
