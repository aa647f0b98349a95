"""A hundred window features of two keys, Arrow table to Arrow table: Penstock, Polars, DuckDB.

`python -m benchmarks.wide INPUT OUTPUT common|all` is Penstock's own run, in a child process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.contest import Contestant, cpu_of, hold
from benchmarks.environments import PEERS, peer_python, peer_versions
from benchmarks.machine import versions_of
from benchmarks.process import WORK
from benchmarks.result import Agreement, Bar, Figure, Result, find, ratio

if TYPE_CHECKING:
    from penstock import Aggregate, StreamFeatureView, StreamSource

EVENTS, CARDS, TERMINALS, DAYS = 5_000_000, 10_000, 20_000, 180
START_US, DAY_US = 1_700_000_000_000_000, 86_400_000_000
TOLERANCE = 1e-9  # relative
NAMES = ("Penstock", "Polars", "DuckDB", "Penstock, common", "Polars, common", "DuckDB, common")
PACKAGES = ("penstock", "numpy", "numba", "pyarrow")
WHAT = (
    "100 features for each of 5 M payments of 10,000 cards at 20,000 terminals in 180 days: count, sum, mean, min, max, standard deviation "
    "and number of different counterparts over 10 minutes, 1 and 6 hours, 1, 7, 30 and 90 days, and the amount before, each by card "
    "and by terminal; from an Arrow table in memory to an Arrow table in memory, in the same order. 'common' is the 86 without the number of "
    "different ones, which Polars and DuckDB count window by window. Polars and DuckDB use all cores. Imports come before the clock starts; "
    "so do a few rows, which load Penstock's compiled code from its cache as an import loads the peers'. Every tenth row is compared."
)


def run_penstock(table: pa.Table, names: list[str]) -> pa.Table:
    """Penstock's turn: the features named in peers/shared/wide_work.py, in the table's order."""
    from wide_work import ENTITIES

    from penstock import FeatureService, PushConfig, StreamSource
    from penstock.types import Field, Float64, Int64, Timestamp

    schema = [Field("timestamp", Timestamp), Field("card_id", Int64), Field("terminal_id", Int64)]
    payments = StreamSource("payments", PushConfig(), schema=[*schema, Field("amount", Float64)])
    views = [_view(entity, payments, names) for entity in ENTITIES]
    frame = FeatureService("features", features=views).get_features_for_events(table)
    given = frame.to_arrow().select(list(frame.feature_names))
    return given.rename_columns([name.replace("__", "_") for name in frame.feature_names]).select(names)


def _view(entity: str, payments: StreamSource, names: list[str]) -> StreamFeatureView:
    """The features of one key."""
    from penstock import Entity, StreamFeatureView
    from penstock.types import Field, Int64

    own = [name.removeprefix(f"{entity}_") for name in names if name.startswith(f"{entity}_")]
    return StreamFeatureView(
        entity,
        source=payments,
        entities=[Entity(entity, [Field(f"{entity}_id", Int64)])],
        features=[_aggregate(entity, name) for name in own],
    )


def _aggregate(entity: str, name: str) -> Aggregate:
    from wide_work import ENTITIES, MINUTES, PREVIOUS

    from penstock import Aggregate
    from penstock.types import Field, Float64, Int64

    amount, other = Field("amount", Float64), Field(ENTITIES[entity], Int64)
    function, _, size = name.partition("_")
    window = timedelta(minutes=MINUTES[size or PREVIOUS])
    if function == "previous":
        return Aggregate(amount, "last", time_window=window, include_current=False, name=name)
    column = other if function == "distinct" else amount
    called = {"distinct": "count_distinct", "std": "stddev_samp"}.get(function, function)
    return Aggregate(column, called, time_window=window, name=name)


def warm_up(names: list[str]) -> None:
    """Import all that Penstock's turn needs, and load its compiled code."""
    run_penstock(payments_table(10), names)


def payments_table(events: int) -> pa.Table:
    """Payments in time order, alike in every run; no two have the same time. Fewer events are of fewer keys."""
    random = np.random.default_rng(7)
    apart = DAYS * DAY_US // events
    keys = {
        f"{name}_id": random.integers(0, max(count * events // EVENTS, 2), events)
        for name, count in (("card", CARDS), ("terminal", TERMINALS))
    }
    times = START_US + np.arange(events) * apart + random.integers(0, apart, events)
    amounts = np.round(random.gamma(2.0, 30.0, events), 2)
    return pa.table({"timestamp": pa.array(times, pa.timestamp("us", "UTC")), **keys, "amount": amounts})


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """The contest in all features and in the common ones, and every contestant's values against DuckDB's."""
    source = _file(int(EVENTS * scale))
    contestants = [_contestant(name, source, int(EVENTS * scale)) for name in NAMES]
    contest = hold(contestants, say)
    figures = contest.figures(
        "events/s", lambda run: run.report["events"] / run.report["seconds"], contestants
    )
    figures = [replace(figure, note=cpu_of(contest.runs[figure.contestant])) for figure in figures]
    versions = versions_of(*PACKAGES)
    for name in {name.partition(",")[0] for name in contest.runs} - {"Penstock"}:
        versions |= peer_versions(name.lower())
    return Result(
        benchmark="wide",
        what=WHAT,
        figures=tuple(figures),
        bars=tuple(_bars(figures)),
        agreements=tuple(
            compare(name, _reference(name))
            for name in contest.runs
            if name not in {"DuckDB", "DuckDB, common"}
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions,
    )


def _bars(figures: list[Figure]) -> Iterator[Bar]:
    """How many times as fast, and how much of their memory, in all features and in the common ones."""
    for part, what in (("", "100 features"), (", common", "86 common features")):
        for peer in ("Polars", "DuckDB"):
            yield Bar(f"{what}, times {peer}", ratio(figures, f"Penstock{part}", f"{peer}{part}"), 5.0, "×")
            share = _memory(figures, f"Penstock{part}", f"{peer}{part}")
            yield Bar(f"{what}, peak memory over {peer}'s", share, 1.0, "×", at_most=True)


def _memory(figures: list[Figure], ours: str, theirs: str) -> float | None:
    """Our peak over theirs; None where either is missing."""
    peaks = [figure.peak_mb for name in (ours, theirs) if (figure := find(figures, name)) is not None]
    our, their = peaks if len(peaks) == 2 else (None, None)
    return None if our is None or their is None else our / their


def _reference(name: str) -> str:
    """DuckDB with the same features."""
    return "DuckDB" + name[len(name.partition(",")[0]) :]


def _file(events: int) -> Path:
    path = WORK / f"wide-{events}.arrow"
    if not path.is_file():
        WORK.mkdir(parents=True, exist_ok=True)
        table = payments_table(events)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    return path


def _contestant(name: str, source: Path, events: int) -> Contestant:
    return Contestant(
        name,
        partial(_command, name, source),
        events=events,
        repetitions=3,
        timeout_s=3_600,
        environment={"PYTHONPATH": str(PEERS / "shared")},
    )


def _command(name: str, source: Path) -> list[str | Path]:
    who, _, part = name.partition(", ")
    who_runs: list[str | Path] = (
        [sys.executable, "-m", "benchmarks.wide"]
        if who == "Penstock"
        else [peer_python(who.lower()), PEERS / who.lower() / "wide.py"]
    )
    return [*who_runs, source, _output_of(name), part or "all"]


def _output_of(name: str) -> Path:
    return WORK / f"wide-{name.lower().replace(', ', '-')}.arrow"


def compare(name: str, reference: str) -> Agreement:
    """A contestant's features against the reference's, column by column; an empty window's null, NaN and 0 mean the same."""
    ours, theirs = _read(_output_of(name)), _read(_output_of(reference))
    if ours.num_rows != theirs.num_rows or ours.column_names != theirs.column_names:
        return Agreement(name, reference, ours.num_rows, max(ours.num_rows, theirs.num_rows), 1.0)
    differs, largest = np.zeros(ours.num_rows, bool), 0.0
    for column in ours.column_names:
        a, b = _numbers(ours[column]), _numbers(theirs[column])
        gaps = np.abs(a - b) / np.maximum(1.0, np.abs(b))
        differs |= gaps > TOLERANCE
        largest = max(largest, float(gaps.max(initial=0.0)))
    return Agreement(name, reference, ours.num_rows, int(differs.sum()), largest)


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    numbers: np.ndarray = np.nan_to_num(pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy())
    return numbers


if __name__ == "__main__":
    from wide_work import ALL, contend

    warm_up(ALL)
    contend(run_penstock)
