"""One event at a time, in process: its latency through features, model and policy, with and without a commit.

`python -m benchmarks.latency EVENTS MODEL OUTPUT none|process|power` is Penstock's own run, in a child process; the last
argument says what is committed.
"""

from __future__ import annotations

import gc
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contest import Contest, Contestant, hold
from benchmarks.environments import PEERS, peer_python, peer_versions
from benchmarks.events import events_file, model_file
from benchmarks.machine import versions_of
from benchmarks.process import WORK
from benchmarks.project import SOURCE, open_payments, warm_up
from benchmarks.result import Bar, Figure, Result

if TYPE_CHECKING:
    from penstock.app import Runtime

WHAT = (
    "A line of JSON in, 12 window features, XGBoost (100 trees, depth 6), decision out; one event at a time, each waited for. "
    "The first half of the events warms up; what is there at the start is left alone by the garbage collector (`gc.freeze`, as `penstock up` does). Plain Python has no policy, no log and no commit."
)
EVENTS = 100_000
REPETITIONS = 3
PEER = "plain Python"
COMMITS = {
    "none": "Penstock",
    "process": "Penstock, committed, process",
    "power": "Penstock, committed, power",
}
# What is committed → the p50 and p99 that the project asks for, in µs.
LIMITS_US = {"none": (60, 250), "power": (300, 1_000)}


def run_penstock(events: Path, model: Path, output: Path, *, commit: str) -> list[int]:
    """Penstock's turn: nanoseconds of each event in order, from its bytes to its decision.

    `commit` is none, or the durability of the commit that each event waits for.
    """
    durability = "process" if commit == "none" else commit
    runtime = open_payments(output.with_suffix(".project"), model=model, durability=durability)
    warm_up(runtime, batches=(1, 1, 1))
    one = _undecided if commit == "none" else _committed
    lines = events.read_bytes().splitlines()
    if commit != "none":
        lines = lines[: len(lines) // 5]
    nanoseconds = []
    gc.freeze()
    for line in lines:
        started = time.perf_counter_ns()
        one(runtime, line)
        nanoseconds.append(time.perf_counter_ns() - started)
    runtime.close(snapshot=False)
    return nanoseconds


def _committed(runtime: Runtime, line: bytes) -> None:
    """From the bytes to the durable decision."""
    runtime.process([(SOURCE, runtime.engine.decode(SOURCE, line))], overlap=False)


def _undecided(runtime: Runtime, line: bytes) -> None:
    """From the bytes to the decision, which nobody stores."""
    runtime.engine.step([(SOURCE, runtime.engine.decode(SOURCE, line))])


def lone_commit_us(commits: int = 1_000) -> float:
    """What the disk allows: the median of synced commits of one row of 600 bytes each, by SQLite alone.

    The first half, in which the write-ahead log grows, does not count.
    """
    taken = []
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        connection = sqlite3.connect(Path(folder) / "lone.db", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB)")
        for number in range(2 * commits):
            if number == commits:
                connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            started = time.perf_counter_ns()
            connection.execute("INSERT INTO t VALUES (?, ?)", (number, bytes(600)))
            taken.append(time.perf_counter_ns() - started)
        connection.close()
    return statistics.median(taken[commits:]) / 1e3


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """Penstock with each kind of commit, and plain Python, in turns."""
    events = events_file(int(EVENTS * scale))
    contestants = [
        *(_penstock(events, name, commit) for commit, name in COMMITS.items()),
        Contestant(
            PEER,
            lambda: [
                peer_python("plain"),
                PEERS / "plain/latency.py",
                events,
                model_file(),
                WORK / "latency-plain",
            ],
            repetitions=REPETITIONS,
            environment={"PYTHONPATH": str(PEERS / "shared")},
        ),
    ]
    contest = hold(contestants, say)
    lone = [lone_commit_us() for _ in range(REPETITIONS)]
    versions = versions_of("penstock", "numpy", "numba", "xgboost-cpu", "onnxruntime")
    return Result(
        benchmark="latency",
        what=WHAT,
        figures=(
            *(figure for contestant in contestants for figure in _figures(contest, contestant)),
            Figure.median("SQLite alone, one row committed, power, p50", "µs", lone),
        ),
        bars=tuple(bar for commit, limits in LIMITS_US.items() for bar in _bars(contest, commit, limits)),
        failed=contest.failed,
        scale=scale,
        versions=versions | (peer_versions("plain") if PEER in contest.runs else {}),
    )


def _penstock(events: Path, name: str, commit: str) -> Contestant:
    def command() -> list[str | Path]:
        output = WORK / f"latency-{commit}"
        return [sys.executable, "-m", "benchmarks.latency", events, model_file(), output, commit]

    environment = {"PYTHONPATH": str(PEERS / "shared")}
    return Contestant(name, command, repetitions=REPETITIONS, environment=environment)


def _figures(contest: Contest, contestant: Contestant) -> list[Figure]:
    runs = contest.runs.get(contestant.name, [])
    return [
        Figure.median(
            f"{contestant.name}, {quantile}",
            "µs",
            [run.report[f"{quantile}_us"] for run in runs],
            events=runs[0].report["events"],
            peak_mb=round(max(run.peak_mb for run in runs), 1),
        )
        for quantile in ("p50", "p99", "p999")
        if runs
    ]


def _bars(contest: Contest, commit: str, limits: tuple[float, float]) -> list[Bar]:
    name = COMMITS[commit]
    runs = contest.runs.get(name, [])
    figures = (
        {figure.contestant: figure.value for figure in _figures(contest, Contestant(name, list))}
        if runs
        else {}
    )
    return [
        Bar(f"{name}, {quantile}", figures.get(f"{name}, {quantile}"), limit, "µs", at_most=True)
        for quantile, limit in zip(("p50", "p99"), limits, strict=True)
    ]


if __name__ == "__main__":
    from stream_work import latency_report

    file, model, output, commit = sys.argv[1:]
    latency_report(run_penstock(Path(file), Path(model), Path(output), commit=commit))
