"""The 12 window features of the published fraud data, Arrow table to Arrow table: Penstock, Polars, DuckDB.

`python -m benchmarks.backfill INPUT OUTPUT` is Penstock's own run, in a child process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.contest import Contestant, cpu_of, hold
from benchmarks.environments import PEERS, peer_python, peer_versions
from benchmarks.machine import versions_of
from benchmarks.process import WORK
from benchmarks.result import Agreement, Bar, Result, ratio

WHAT = (
    "Count and mean amount of the customer over 1, 7 and 30 days, count and fraud share of the terminal over the same with "
    "7 days' delay, for every row of the simulated payments; from an Arrow table in memory to an Arrow table in memory, in the "
    "same order. Rows of the same second are set apart by microseconds in log order, so that all define the same features. "
    "Polars and DuckDB use all cores. Imports come before the clock starts; so does one row, which loads Penstock's compiled "
    "code from its cache as an import loads the peers'."
)
TOLERANCE = 1e-9  # relative
COLUMNS = ["transaction_id", "timestamp", "customer_id", "terminal_id", "amount", "is_fraud"]


def run_penstock(table: pa.Table) -> pa.Table:
    """Penstock's turn: the features named in peers/shared/backfill_work.py, in the table's order."""
    from backfill_work import DAYS, DELAY_DAYS, FEATURES

    from penstock import (
        Aggregate,
        Entity,
        FeatureService,
        PushConfig,
        StreamFeatureView,
        StreamSource,
        TimeWindow,
    )
    from penstock.types import Bool, Field, Float64, Int64, Timestamp

    day = timedelta(days=1)
    amount, is_fraud = Field("amount", Float64), Field("is_fraud", Bool)
    customer, terminal = Field("customer_id", Int64), Field("terminal_id", Int64)
    schema = [
        Field("transaction_id", Int64),
        Field("timestamp", Timestamp),
        customer,
        terminal,
        amount,
        is_fraud,
    ]
    payments = StreamSource("payments", PushConfig(), schema=schema)
    by_customer = StreamFeatureView(
        "customer",
        source=payments,
        entities=[Entity("customer", [customer])],
        features=[Aggregate(amount, f, time_window=days * day) for days in DAYS for f in ("count", "mean")],
    )
    delayed = [TimeWindow(days * day, offset=-DELAY_DAYS * day) for days in DAYS]
    by_terminal = StreamFeatureView(
        "terminal",
        source=payments,
        entities=[Entity("terminal", [terminal])],
        features=[Aggregate(is_fraud, f, time_window=w) for w in delayed for f in ("count", "mean")],
    )
    service = FeatureService("features", features=[by_customer, by_terminal])
    frame = service.get_features_for_events(table)
    return frame.to_arrow().select(list(frame.feature_names)).rename_columns(FEATURES)


def warm_up() -> None:
    """Import all that Penstock's turn needs, and load its compiled code."""
    time = pa.array([0], pa.timestamp("us", "UTC"))
    columns = [pa.array([1]), time, pa.array([1]), pa.array([1]), pa.array([1.0]), pa.array([False])]
    run_penstock(pa.table(columns, names=COLUMNS))


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """The contest, and every contestant's features against DuckDB's."""
    source = payments_file(scale)
    contestants = [_contestant(name, source) for name in ("Penstock", "Polars", "DuckDB")]
    contest = hold(contestants, say)
    figures = contest.figures(
        "events/s", lambda run: run.report["events"] / run.report["seconds"], contestants
    )
    figures = [replace(figure, note=cpu_of(contest.runs[figure.contestant])) for figure in figures]
    versions = versions_of("penstock", "numpy", "numba", "pyarrow")
    for name in ("Polars", "DuckDB"):
        if name in contest.runs:
            versions |= peer_versions(name.lower())
    return Result(
        benchmark="backfill",
        what=WHAT,
        figures=tuple(figures),
        bars=(
            Bar("times Polars", ratio(figures, "Penstock", "Polars"), 3.0, "×"),
            Bar("times DuckDB", ratio(figures, "Penstock", "DuckDB"), 6.0, "×"),
        ),
        agreements=tuple(compare(name, "DuckDB") for name in contest.runs if name != "DuckDB"),
        failed=contest.failed,
        scale=scale,
        versions=versions,
    )


def payments_file(scale: float) -> Path:
    """The published data, or its first share, as an Arrow file; times made distinct in log order."""
    path = WORK / f"payments-{scale:g}.arrow"
    if not path.is_file():
        from examples.fraud.simulator import simulate

        table = simulate().select(COLUMNS)
        table = _distinct_times(table.slice(0, int(table.num_rows * scale)))
        WORK.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    return path


def _distinct_times(table: pa.Table) -> pa.Table:
    """Add each row's rank within its second, in microseconds."""
    seconds = table["timestamp"].cast(pa.int64()).to_numpy()
    starts = np.flatnonzero(np.diff(seconds, prepend=seconds[0] - 1))
    rank = np.arange(len(seconds)) - np.repeat(starts, np.diff(starts, append=len(seconds)))
    times = pa.array(seconds + rank).cast(table.schema.field("timestamp").type)
    return table.set_column(table.column_names.index("timestamp"), "timestamp", times)


def _contestant(name: str, source: Path) -> Contestant:
    with pa.OSFile(str(source)) as file:
        rows = pa.ipc.open_file(file).read_all().num_rows
    return Contestant(
        name,
        partial(_command, name, source),
        events=rows,
        repetitions=3,
        environment={"PYTHONPATH": str(PEERS / "shared")},
    )


def _command(name: str, source: Path) -> list[str | Path]:
    if name == "Penstock":
        return [sys.executable, "-m", "benchmarks.backfill", source, _output_of(name)]
    peer = name.lower()
    return [peer_python(peer), PEERS / peer / "backfill.py", source, _output_of(name)]


def _output_of(name: str) -> Path:
    return WORK / f"backfill-{name.lower()}.arrow"


def compare(name: str, reference: str) -> Agreement:
    """A contestant's features against the reference's; an empty window's null, NaN and 0 mean the same."""
    ours, theirs = _features(_output_of(name)), _features(_output_of(reference))
    if ours.shape != theirs.shape:
        return Agreement(name, reference, len(ours), max(len(ours), len(theirs)), 1.0)
    gaps = np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))
    differing = int((gaps > TOLERANCE).any(axis=1).sum())
    return Agreement(name, reference, len(ours), differing, float(gaps.max(initial=0.0)))


def _features(path: Path) -> np.ndarray:
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    columns = [pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy() for column in table.columns]
    features: np.ndarray = np.nan_to_num(np.column_stack(columns))
    return features


if __name__ == "__main__":
    from backfill_work import contend

    warm_up()
    contend(run_penstock)
