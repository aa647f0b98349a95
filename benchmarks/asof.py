"""Point-in-time join of a profile's history to label events: Penstock, DuckDB's ASOF JOIN, Feast.

`python -m benchmarks.asof EVENTS PROFILES OUTPUT` is Penstock's own run, in a child process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.contest import Contestant, hold
from benchmarks.environments import PEERS, peer_python, peer_versions
from benchmarks.machine import versions_of
from benchmarks.process import WORK
from benchmarks.result import Agreement, Bar, Result, ratio

WHAT = (
    "50,000 events of 200,000 users, each with the latest of 10 features as of its time, from 5 M rows of profile history in the "
    "order of time over 90 days; events and history are Arrow tables in memory (Feast's history a Parquet file and its events a "
    "pandas frame, as it takes them). Every event comes out. DuckDB uses all cores. Imports come before the clock starts; so do a "
    "few rows, which load Penstock's compiled code from its cache as an import loads the peers'."
)
EVENTS, ROWS, USERS = 50_000, 5_000_000, 200_000
NAMES = ("Penstock", "DuckDB", "Feast")
START_US, SPAN_US = 1_700_000_000_000_000, 90 * 86_400_000_000


def run_penstock(events: pa.Table, profiles: pa.Table) -> pa.Table:
    """Penstock's turn: the events with the features."""
    from asof_work import FEATURES

    from penstock import Attribute, BatchFeatureView, BatchSource, Entity, FileConfig
    from penstock.types import Field, Float64, String, Timestamp

    user = Field("user_id", String)
    schema = [user, Field("changed", Timestamp), *(Field(name, Float64) for name in FEATURES)]
    users = BatchSource("users", FileConfig("users.parquet", "parquet"), schema=schema)
    attributes = [Attribute(name, Float64) for name in FEATURES]
    profile = BatchFeatureView(
        "profile", sources=[users], entities=[Entity("user", [user])], features=attributes
    )
    frame = profile.get_features_for_events(events, history={"users": profiles}).to_arrow()
    return frame.rename_columns([name.removeprefix("profile__") for name in frame.column_names])


def warm_up() -> None:
    """Import all that Penstock's turn needs, and load its compiled code."""
    run_penstock(*tables(events=10, rows=100, users=5))


def tables(*, events: int, rows: int, users: int) -> tuple[pa.Table, pa.Table]:
    """Events and profile history, alike in every run; no two rows of a user have the same time."""
    random = np.random.default_rng(7)
    names = pa.array([f"u{i:07d}" for i in range(users)])
    times = _distinct(random, rows)
    profiles = {
        "user_id": names.take(pa.array(random.integers(0, users, rows))),
        "changed": pa.array(START_US + times, pa.timestamp("us", "UTC")),
    } | {f"f{i}": random.random(rows) for i in range(10)}
    asked = {
        "event_id": np.arange(events),
        "user_id": names.take(pa.array(random.integers(0, users, events))),
        "time": pa.array(START_US + random.integers(0, SPAN_US, events), pa.timestamp("us", "UTC")),
    }
    return pa.table(asked), pa.table(profiles)


def _distinct(random: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Distinct times in order: one in each of `count` equal stretches."""
    width = SPAN_US // count
    return np.arange(count) * width + random.integers(0, width, count)


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """The contest, our features against DuckDB's, and how many events each contestant drops."""
    files = _files(scale)
    contestants = [_contestant(name, files, scale) for name in NAMES]
    contest = hold(contestants, say)
    figures = contest.figures(
        "events/s", lambda run: run.report["events"] / run.report["seconds"], contestants
    )
    figures = [replace(figure, note=_dropped(figure.contestant, scale)) for figure in figures]
    versions = versions_of("penstock", "numpy", "numba", "pyarrow")
    for name in ("DuckDB", "Feast"):
        if name in contest.runs:
            versions |= peer_versions(name.lower())
    return Result(
        benchmark="asof",
        what=WHAT,
        figures=tuple(figures),
        bars=(
            Bar("times DuckDB", ratio(figures, "Penstock", "DuckDB"), 5.0, "×"),
            Bar("times Feast", ratio(figures, "Penstock", "Feast"), 20.0, "×"),
        ),
        agreements=tuple(compare(name, "DuckDB") for name in contest.runs if name == "Penstock"),
        failed=contest.failed,
        scale=scale,
        versions=versions,
    )


def _files(scale: float) -> tuple[Path, Path]:
    """Events and profiles as Arrow files."""
    WORK.mkdir(parents=True, exist_ok=True)
    found = WORK / f"asof-events-{scale:g}.arrow", WORK / f"asof-profiles-{scale:g}.arrow"
    if not all(path.is_file() for path in found):
        sizes = {"events": EVENTS, "rows": ROWS, "users": USERS}
        made = tables(**{name: max(int(size * scale), 1) for name, size in sizes.items()})
        for path, table in zip(found, made, strict=True):
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
    return found


def _contestant(name: str, files: tuple[Path, Path], scale: float) -> Contestant:
    return Contestant(
        name,
        partial(_command, name, files),
        events=int(EVENTS * scale),
        repetitions=3,
        environment={"PYTHONPATH": str(PEERS / "shared")},
    )


def _command(name: str, files: tuple[Path, Path]) -> list[str | Path]:
    if name == "Penstock":
        return [sys.executable, "-m", "benchmarks.asof", *files, _output_of(name)]
    peer = name.lower()
    return [peer_python(peer), PEERS / peer / "asof.py", *files, _output_of(name)]


def _output_of(name: str) -> Path:
    return WORK / f"asof-{name.lower()}.arrow"


def _dropped(name: str, scale: float) -> str:
    """How many events did not come out."""
    missing = int(EVENTS * scale) - len(_features(_output_of(name)))
    return f"drops {missing:,} of the events" if missing else ""


def compare(name: str, reference: str) -> Agreement:
    """A contestant's features against the reference's, event by event; a dropped event differs."""
    ours, theirs = _features(_output_of(name)), _features(_output_of(reference))
    ids = np.intersect1d(ours[:, 0], theirs[:, 0])
    dropped = max(len(ours), len(theirs)) - len(ids)
    one, other = (t[np.isin(t[:, 0], ids)] for t in (ours, theirs))
    equal = (one == other) | (np.isnan(one) & np.isnan(other))
    differing = int((~equal).any(axis=1).sum()) + dropped
    gap = float(np.nan_to_num(np.abs(one - other)).max(initial=0.0))
    return Agreement(name, reference, len(theirs), differing, gap)


def _features(path: Path) -> np.ndarray[Any, Any]:
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    columns = [pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy() for column in table.columns]
    features: np.ndarray[Any, Any] = np.column_stack(columns)
    return features


if __name__ == "__main__":
    from asof_work import contend

    warm_up()
    contend(run_penstock)
