"""What a rate of events asks for, from what was measured: the tables of docs/scaling.md. `python -m benchmarks.capacity [--check]`.

Figures of benchmarks/results are taken as they are; each that follows names what else was assumed. With --check nothing is written and tables that
differ are an error.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import ROOT
from benchmarks.readme_table import ReadmeError, number, with_table
from benchmarks.result import RESULTS

PAGE = ROOT / "docs" / "scaling.md"
MARKS = (
    "<!-- capacity: made by `python -m benchmarks.capacity` from benchmarks/results -->",
    "<!-- end of capacity -->",
)
RATES = (10_000, 100_000, 1_000_000)
VIEWS = 2
"""Of the benchmark: each event is a row of each of them."""
DAY_S, HOUR_S = 86_400, 3_600

BUSY = 0.6
A_WORKER = 20_000
SPREAD = 3
REPLICAS, KEPT_DAYS = 3, 3
WRITTEN, DISK_MB = 2.0, 250.0
ASSUMED = (
    (
        f"{BUSY:.0%}",
        "how busy a processor may be on the average; the rest is for peaks and for others' shards",
    ),
    (
        f"{A_WORKER:,} /s",
        "what one worker on a core of its own is given, below what its CPU of an event allows at that load. Several machines: not measured",
    ),
    (f"{SPREAD}", "partitions a worker, so that what a lost one had can be shared out"),
    (
        "1",
        "the cost of an event is that of full micro-batches; at a low rate a shard has smaller ones, and an event costs more",
    ),
    (f"{REPLICAS}, {KEPT_DAYS} days", "Kafka's replicas and retention"),
    (
        f"{WRITTEN:g} ×",
        "what PostgreSQL writes of a byte that stays: the table and its log, without replicas",
    ),
    (f"{DISK_MB:g} MB/s", "what a database's volume takes all day long"),
)
"""What the extrapolation adds to what was measured."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure as it was measured: of which result, and under which name there."""

    what: str
    benchmark: str
    figure: str
    unit: str


MEASURED = {
    "worker": Measured("CPU of an event in a worker", "footprint", "kafka: worker, CPU", "µs"),
    "database": Measured("CPU of an event in PostgreSQL", "footprint", "kafka: database, CPU", "µs"),
    "broker": Measured("CPU of an event in Kafka", "footprint", "kafka: broker, CPU", "µs"),
    "rate": Measured("one worker with two stages, broker and PostgreSQL, all on two cores", "footprint", "kafka: through both stages", "events/s"),
    "embedded": Measured("one process with SQLite, no broker, on two cores", "stream", "Penstock, power", "events/s"),
    "http": Measured("HTTP, an event a request, on two cores with its clients", "serving", "Penstock, 64 connections, a second", "events/s"),
    "row": Measured("memory of a row in a view's windows", "footprint", "sqlite: state bytes a row", "bytes"),
    "key": Measured("memory of a key of a view, besides its rows", "footprint", "sqlite: state bytes a key", "bytes"),
    "encoded": Measured("a snapshot's state, encoded between two micro-batches", "footprint", "sqlite: snapshot encoded", "MB/s"),
    "snapshot": Measured("a snapshot, of a row", "footprint", "sqlite: snapshot bytes a row", "bytes"),
    "sqlite": Measured("SQLite: log, decisions and vectors", "footprint", "sqlite: store, bytes an event", "bytes/event"),
    "ids": Measured("index of event ids on disk (a cache)", "footprint", "sqlite: ids on disk, bytes an event", "bytes/event"),
    "whole": Measured("PostgreSQL, all of it, one engine for both views", "footprint", "postgres: store, bytes an event", "bytes/event"),
    "postgres": Measured("PostgreSQL, all of it, both stages", "footprint", "kafka: store, bytes an event", "bytes/event"),
    "batches": Measured("of these: log of both stages, decisions and vectors, as batches", "footprint", "kafka: batches, bytes an event", "bytes/event"),
    "rows": Measured("of these: decisions as rows", "footprint", "kafka: decision rows, bytes an event", "bytes/event"),
    "indexes": Measured("of these: their three indexes", "footprint", "kafka: their indexes, bytes an event", "bytes/event"),
    "redis": Measured("Redis, a key of a view with 20 to 60 rows", "footprint", "sqlite: Redis bytes a key", "bytes"),
    "kafka": Measured("Kafka, a JSON event, lz4, one replica", "footprint", "kafka: Kafka bytes an event", "bytes/event"),
    "open": Measured("start from a snapshot of 300,000 rows and 15,000 keys, SQLite", "footprint", "sqlite: start from a snapshot", "s"),
    "fold": Measured("fold of the log, SQLite", "footprint", "sqlite: fold of a million events", "s/million"),
    "fold_postgres": Measured("fold of the log, PostgreSQL", "footprint", "postgres: fold of a million events", "s/million"),
}  # fmt: skip
"""What the model begins with."""


def main(arguments: list[str]) -> int:
    """Write or check the page's tables."""
    try:
        update(check=arguments == ["--check"])
    except ReadmeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def update(*, check: bool) -> None:
    """Write the tables, or see that they are those that the results give."""
    text = PAGE.read_text(encoding="utf-8")
    wanted = with_table(text, render(load(RESULTS)), marks=MARKS, name=PAGE.name)
    if check and wanted != text:
        raise ReadmeError(
            f"{PAGE.name}: its tables are not those of the results; run `python -m benchmarks.capacity`"
        )
    if not check:
        PAGE.write_text(wanted, encoding="utf-8")


def load(folder: Path) -> dict[str, float]:
    """The measured figures by their short names; raises `ReadmeError` where a result lacks one."""
    results = {
        one.benchmark: json.loads((folder / f"{one.benchmark}.json").read_text("utf-8"))
        for one in MEASURED.values()
    }
    found = {}
    for short, one in MEASURED.items():
        values = [f["value"] for f in results[one.benchmark]["figures"] if f["contestant"] == one.figure]
        if not values:
            raise ReadmeError(
                f"{one.benchmark}.json has no figure {one.figure!r}; run `make bench NAME={one.benchmark}`"
            )
        found[short] = float(values[0])
    return found


def render(found: dict[str, float]) -> str:
    """What was measured, what was assumed, and what follows."""
    measured = [
        [one.what, f"{number(found[short])} {one.unit}", f"`results/{one.benchmark}.json`: {one.figure}"]
        for short, one in MEASURED.items()
    ]
    follows = [[what, rule, *(shown(rate) for rate in RATES)] for what, rule, shown in _rules(found)]
    return "\n\n".join(
        [
            "### Measured",
            _table(["what", "measured", "where"], measured),
            "### Assumed, and not measured",
            _table(["value", "what"], [list(one) for one in ASSUMED]),
            "### Extrapolated",
            _table(["what", "rule", *(f"{rate:,} /s" for rate in RATES)], follows),
        ]
    )


Shown = Callable[[int], str]


def _rules(found: dict[str, float]) -> list[tuple[str, str, Shown]]:
    """What is asked for: its name, how it follows, and its value for a rate."""
    row = VIEWS * found["row"]

    def cores(name: str) -> Shown:
        return lambda rate: f"{rate * found[name] / 1e6 / BUSY:,.1f}"

    def size(bytes_a_second: float) -> Shown:
        return lambda rate: _bytes(rate * bytes_a_second)

    def written(rate: int) -> float:
        return rate * found["postgres"] * WRITTEN / 1e6

    return [
        ("cores of workers", f"rate × {number(found['worker'])} µs ÷ {BUSY}", cores("worker")),
        ("cores of PostgreSQL", f"rate × {number(found['database'])} µs ÷ {BUSY}", cores("database")),
        ("cores of Kafka, one replica", f"rate × {number(found['broker'])} µs ÷ {BUSY}", cores("broker")),
        ("workers", f"rate ÷ {A_WORKER:,}, two at least", lambda rate: f"{workers(rate)}"),
        ("partitions, and so shards", f"{SPREAD} × workers, rounded up to a power of two", lambda rate: f"{partitions(rate)}"),
        ("memory, windows up to an hour", f"rate × 3,600 × {VIEWS} views × {number(found['row'])} bytes", size(HOUR_S * row)),
        ("memory, windows up to a day", "rate × 86,400 × the same", size(DAY_S * row)),
        ("memory, windows up to 30 days", "30 × that", size(30 * DAY_S * row)),
        ("memory of keys, 10 events a key in the window of an hour", f"rate × 360 × {VIEWS} × {number(found['key'])} bytes", size(HOUR_S / 10 * VIEWS * found["key"])),
        ("memory of event ids after 30 days", "rate × 86,400 × 30 × 2 bytes (docs/open.md), for ever", size(30 * DAY_S * 2)),
        (
            "pause of a shard for a snapshot, windows up to an hour",
            f"its rows × {number(found['snapshot'])} bytes ÷ {number(found['encoded'])} MB/s",
            lambda rate: f"{rate / partitions(rate) * HOUR_S * VIEWS * found['snapshot'] / 1e6 / found['encoded']:,.1f} s",
        ),
        ("PostgreSQL, a day", f"rate × 86,400 × {number(found['postgres'])} bytes", size(DAY_S * found["postgres"])),
        ("SQLite instead, a day", f"rate × 86,400 × {number(found['sqlite'])} bytes", size(DAY_S * found["sqlite"])),
        ("written by PostgreSQL", f"rate × {number(found['postgres'])} bytes × {WRITTEN:g}", lambda rate: f"{written(rate):,.0f} MB/s"),
        ("databases", f"that ÷ {DISK_MB:g} MB/s", lambda rate: f"{math.ceil(written(rate) / DISK_MB)}"),
        (
            f"Kafka, {KEPT_DAYS} days, {REPLICAS} replicas",
            f"rate × 86,400 × {number(found['kafka'])} bytes × {KEPT_DAYS} × {REPLICAS}",
            size(DAY_S * KEPT_DAYS * REPLICAS * found["kafka"]),
        ),
        ("Redis, 10 million keys of a view", f"10,000,000 × {number(found['redis'])} bytes", lambda _: _bytes(1e7 * found["redis"])),
        (
            "a new view, or no snapshot: fold of a day's log by one shard",
            f"its events × {number(found['fold_postgres'])} s a million",
            lambda rate: _time(rate / partitions(rate) * DAY_S / 1e6 * found["fold_postgres"]),
        ),
    ]  # fmt: skip


def workers(rate: int) -> int:
    """How many workers a rate asks for."""
    return max(2, math.ceil(rate / A_WORKER))


def partitions(rate: int) -> int:
    """How many partitions the topic needs.

    >>> partitions(100_000)
    16
    """
    return int(2 ** math.ceil(math.log2(SPREAD * workers(rate))))


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{number(value)} {unit}"
        value /= 1000
    return f"{number(value)} TB"


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
