"""NDJSON bytes in, windows, XGBoost, decision with its vector committed: Penstock against peers on the same stream.

`python -m benchmarks.stream EVENTS MODEL OUTPUT MODE DURABILITY` is Penstock's own run, in a child process.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contest import Contest, Contestant, hold
from benchmarks.environments import PEERS, peer_python, peer_versions
from benchmarks.events import events_file, model_file, prefix_file
from benchmarks.machine import versions_of
from benchmarks.process import WORK, Run, peak_mb, resident_mb
from benchmarks.project import SOURCE, open_payments, warm_up
from benchmarks.result import Agreement, Bar, Figure, Result, find, ratio

if TYPE_CHECKING:
    from penstock.app import Runtime

BATCH_ROWS = 4_096
LINE_BYTES = 108  # about; a micro-batch is cut at the last whole line

WHAT = (
    "NDJSON card payments → count and mean over 1, 7 and 30 days by card and by terminal → XGBoost (100 trees, depth 6, "
    "one thread) → decision and vector in SQLite. Peers keep no log and check no duplicates. Seconds run from the first "
    "byte read to the last commit. Slow contestants get the first part of the same stream, whose windows are full from "
    "event 300,000 on."
)
EVENTS = 2_100_000
TOLERANCE = 1e-6  # relative; running sums of plain floats drift, so peers are not exact
ENVIRONMENTS = {
    "plain Python": "plain",
    "Bytewax": "bytewax",
    "Pathway": "pathway",
    "Quix Streams": "quix",
    "River": "river",
}
# Our figure over theirs, as the bars ask for.
RATIOS = {"plain Python": 2.5, "Bytewax": 5.0, "Pathway": 12.0, "River": 20.0}


def run_penstock(events: Path, model: Path, output: Path, *, mode: str, durability: str) -> dict[str, Any]:
    """Penstock's turn: `mode` is batch or one (batches of one, each committed), `durability` is power or process.

    Returns the report: events, seconds (first byte read to last commit), peak_mb as of then, and memory_growth (resident
    memory at the end over that at half of the events). Then, not measured, exports event id, score and vector of
    every event to `output` as the peers' table `decisions`, for the check.
    """
    folder = output.with_suffix(".project")
    runtime = open_payments(folder, model=model, durability=durability)
    rows = 1 if mode == "one" else BATCH_ROWS
    warm_up(runtime, batches=(rows,) * 3)
    with events.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 24), b""))
    started = time.perf_counter()
    memory = _feed_each(runtime, events, lines) if rows == 1 else feed(runtime, events, lines)
    runtime.engine.flush()
    seconds = time.perf_counter() - started
    half, end = memory
    report = {
        "events": lines,
        "seconds": seconds,
        "peak_mb": peak_mb(),
        "memory_growth": end / half,
    }
    _export(runtime, output)
    runtime.close(snapshot=False)
    return report


def feed(runtime: Runtime, events: Path, lines: int) -> tuple[float, float]:
    """The file in micro-batches, committing one while the next is computed; resident MB half way and at the end."""
    fed, half = 0, 0.0
    rest = b""
    with events.open("rb") as file:
        while block := file.read(BATCH_ROWS * LINE_BYTES):
            whole, _, rest_of_block = block.rpartition(b"\n")
            decoded = runtime.engine.decode(SOURCE, rest + whole)
            rest = rest_of_block
            runtime.process([(SOURCE, decoded)])
            fed += decoded.received
            if not half and fed >= lines // 2:
                half = resident_mb()
    return half, resident_mb()


def _feed_each(runtime: Runtime, events: Path, lines: int) -> tuple[float, float]:
    """Each event by itself, durable before the next is taken."""
    half = 0.0
    with events.open("rb") as file:
        for fed, line in enumerate(file):
            runtime.process([(SOURCE, runtime.engine.decode(SOURCE, line))], overlap=False)
            if fed == lines // 2:
                half = resident_mb()
    return half, resident_mb()


def _export(runtime: Runtime, output: Path) -> None:
    """Ids, scores and vectors of the stream's events, as the peers leave them."""
    from penstock.engine.decisions import Decisions
    from penstock.kernel.columns import Text

    output.unlink(missing_ok=True)
    db = sqlite3.connect(output)
    columns = ", ".join(f"f{i} real" for i in range(13))
    db.execute(f"create table decisions (event_id text, score real, {columns})")
    insert = f"insert into decisions values ({', '.join('?' * 15)})"
    for batch in runtime.store.read_decisions():
        column = runtime.engine.rows.events(SOURCE, batch.positions)["event_id"]
        assert isinstance(column, Text)
        ids = column.to_strings()
        decided = Decisions.from_bytes(batch.payload)
        rows = zip(ids, decided.scores.tolist(), decided.vectors.tolist(), strict=True)
        db.executemany(insert, [(i, score, *vector) for i, score, vector in rows if i and i[0] != "w"])
    db.commit()
    db.close()


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """The whole contest."""
    whole = events_file(int(EVENTS * scale))
    contestants = _contestants(whole, scale)
    contest = hold(contestants, say)
    figures = contest.figures(
        "events/s", lambda run: run.report["events"] / run.report["seconds"], contestants
    )
    return Result(
        benchmark="stream",
        what=WHAT,
        figures=tuple(figures),
        bars=tuple(_bars(figures, contest)),
        agreements=tuple(_agreements(contest, contestants)),
        failed=contest.failed,
        scale=scale,
        versions=_versions(contest),
    )


def _contestants(whole: Path, scale: float) -> list[Contestant]:
    ours = partial(_penstock, whole, scale=scale)
    theirs = partial(_peer, whole, scale=scale)
    return [
        ours("Penstock, process", events=EVENTS, repetitions=3),
        ours("Penstock, power", events=EVENTS, repetitions=3),
        ours("Penstock, one by one, process", events=100_000, repetitions=3),
        ours("Penstock, one by one, power", events=100_000),
        theirs("plain Python", "batch", events=EVENTS, repetitions=3),
        theirs("plain Python, one by one", "one", events=100_000, note="scored singly, commits of 1,000"),
        theirs("Bytewax", events=900_000, repetitions=2),
        theirs("Pathway", events=300_000),
        theirs("Quix Streams", events=60_000, note="from librdkafka's mock broker, filled beforehand"),
        theirs("River", events=300_000),
    ]


def _penstock(whole: Path, name: str, *, events: int, scale: float, repetitions: int = 1) -> Contestant:
    count = int(events * scale)
    mode, durability = "one" if "one by one" in name else "batch", name.rpartition(", ")[2]

    def command() -> list[str | Path]:
        inputs = [prefix_file(whole, count), model_file()]
        return [sys.executable, "-m", "benchmarks.stream", *inputs, output_of(name), mode, durability]

    return Contestant(name, command, events=count, repetitions=repetitions)


def _peer(
    whole: Path, name: str, *arguments: str, events: int, scale: float, repetitions: int = 1, note: str = ""
) -> Contestant:
    count = int(events * scale)
    peer = ENVIRONMENTS[name.partition(",")[0]]

    def command() -> list[str | Path]:
        inputs = [prefix_file(whole, count), model_file()]
        return [peer_python(peer), PEERS / peer / "stream.py", *inputs, output_of(name), *arguments]

    path = {"PYTHONPATH": str(PEERS / "shared")}
    return Contestant(name, command, events=count, repetitions=repetitions, environment=path, note=note)


def output_of(contestant: str) -> Path:
    """Where a contestant leaves its decisions."""
    return WORK / f"{contestant.lower().replace(', ', '-').replace(' ', '_')}.db"


def _bars(figures: list[Figure], contest: Contest) -> list[Bar]:
    ours = "Penstock, process"
    return [
        *(
            Bar(
                f"events/s, durability {durability}",
                _value(figures, f"Penstock, {durability}"),
                100_000,
                "/s",
            )
            for durability in ("process", "power")
        ),
        Bar("one by one, each committed", _value(figures, "Penstock, one by one, process"), 8_000, "/s"),
        *(Bar(f"times {name}", ratio(figures, ours, name), limit, "×") for name, limit in RATIOS.items()),
        Bar("memory, end over half way", _memory_growth(contest.runs.get(ours, [])), 1.1, "×", at_most=True),
    ]


def _value(figures: list[Figure], name: str) -> float | None:
    figure = find(figures, name)
    return None if figure is None else figure.value


def _memory_growth(runs: list[Run]) -> float | None:
    return max((float(run.report["memory_growth"]) for run in runs), default=None)


def _agreements(contest: Contest, contestants: list[Contestant]) -> list[Agreement]:
    """Each contestant's scores and vectors against plain Python's."""
    reference = "plain Python"
    if reference not in contest.runs:
        return []
    expected = decisions_of(output_of(reference))
    return [
        compare(contestant, reference, expected)
        for contestant in contestants
        if contestant.name in contest.runs and contestant.name != reference
    ]


def compare(
    contestant: Contestant, reference: str, expected_decisions: tuple[list[str], np.ndarray]
) -> Agreement:
    """Compare a contestant's decisions with the reference's row by row.

    Every event that the contestant was given must be there, once, with score and vector within the tolerance; a
    missing or doubled one counts as a row that differs.
    """
    expected_ids, expected = expected_decisions
    ids, values = decisions_of(output_of(contestant.name))
    place = {event_id: row for row, event_id in enumerate(expected_ids)}
    rows = np.array([place.get(event_id, -1) for event_id in ids])
    gaps = np.abs(values - expected[rows]) / np.maximum(1.0, np.abs(expected[rows]))
    gaps = np.nan_to_num(gaps, nan=1.0)  # a missing value is off by all of it
    differing = (rows < 0) | (gaps > TOLERANCE).any(axis=1)
    unaccounted = abs((contestant.events or 0) - len(set(ids))) + len(ids) - len(set(ids))
    return Agreement(
        contestant=contestant.name,
        reference=reference,
        rows=len(ids),
        differing=int(differing.sum()) + unaccounted,
        largest_difference=float(gaps.max(initial=0.0)),
    )


def decisions_of(path: Path) -> tuple[list[str], np.ndarray]:
    """Event ids and the matrix of score and vector, sorted by id."""
    db = sqlite3.connect(path)
    try:
        rows = db.execute("select * from decisions order by event_id").fetchall()
    finally:
        db.close()
    return [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=float)


def _versions(contest: Contest) -> dict[str, str]:
    found = versions_of("penstock", "numpy", "numba", "xgboost-cpu", "onnxruntime")
    for name, peer in ENVIRONMENTS.items():
        if name in contest.runs:
            found |= peer_versions(peer)
    return found


if __name__ == "__main__":
    file, model, output, mode, durability = sys.argv[1:]
    print(json.dumps(run_penstock(Path(file), Path(model), Path(output), mode=mode, durability=durability)))
