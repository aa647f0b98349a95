"""The four steps behind `make -C examples/fraud`: feature pipeline, model, live data, dashboard.

Each is a few commands of Penstock on a project in ``data/steps``, shown as they run. The simulated payments are moved by whole days,
so that the weeks of training end now and the live ones begin.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from examples.project_run import penstock
from penstock.app.route_watch import running_notes
from penstock.app.runtime import registry_of
from penstock.app.settings import load_settings
from penstock.core.clock import SystemClock
from penstock.core.errors import PenstockError
from penstock.core.time import DAY_US
from penstock.definitions.project import load_project

from .population import SimulatorConfig
from .protocol import day_number
from .simulator import PUBLISHED
from .world import HERE, SMALL, World, events_of, labels_of

DEFINITIONS = ("definitions.py", "steps_definitions.py")
SETTINGS = '[project]\nname = "fraud-steps"\ndefinitions = ["steps_definitions.py"]\n'
PAST = ("transactions=past/payments.parquet", "chargebacks=past/labels.parquet")
LIVE = ("transactions=live/payments.parquet", "chargebacks=live/labels.parquet")
NEWEST = 10_000
REASON = "the model_name of the four steps"
INTERRUPTED, FAILED = 130, 3


class Parts(NamedTuple):
    """The payments before and after a moment, and of each the labels that are of use."""

    past: pa.Table
    past_labels: pa.Table
    live: pa.Table
    live_labels: pa.Table


def main(arguments: Sequence[str] | None = None) -> int:
    """Take one step; the process's exit code."""
    options, more = _parser().parse_known_args(arguments)
    folder = options.folder.resolve()
    _bring(folder)
    try:
        STEPS[options.step](folder, SMALL if options.small else PUBLISHED, more)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (PenstockError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return 0


def feature_pipeline(folder: Path, config: SimulatorConfig, more: Sequence[str]) -> None:
    """Payments and labels of the last weeks go through the features; those of the newest payments into a file, too."""
    _data(folder, config)
    penstock(folder, "run", *_files(folder, PAST), *more)
    newest, out = folder / "past" / "newest.parquet", folder / "features.parquet"
    penstock(folder, "backfill", "fraud_features", "--events", str(newest), "--out", str(out))
    _see(folder, "/features", "sources, features, their distributions")


def train(folder: Path, _: SimulatorConfig, more: Sequence[str]) -> None:
    """The model that `model_name` names is trained on the log, registered, and decides from then on."""
    name = next(iter(load_project(folder).endpoints.values())).model.name
    penstock(folder, "train", name, *more)
    newest = registry_of(folder).versions(name)[-1]
    penstock(folder, "registry", "promote", name, str(newest.version), "--skip-gate", REASON)
    penstock(folder, "apply", "--yes")  # where the endpoint had another model, this one now decides
    _see(folder, f"/models/{name}", "figures, plots, history")
    _see(folder, "/compare", "the newest two versions side by side")


def live_data(folder: Path, _: SimulatorConfig, more: Sequence[str]) -> None:
    """Payments after those of the training come in as if they happened now, and their labels after them."""
    _see(folder, "/decisions", "each payment as it is decided")
    penstock(folder, "live-data", *_files(folder, LIVE), "--loop", *more)


def dashboard(folder: Path, _: SimulatorConfig, more: Sequence[str]) -> None:
    """The project is served, and its pages."""
    _see(folder, "/", "open it in a browser")
    penstock(folder, "up", *more)


STEPS = {
    "feature-pipeline": feature_pipeline,
    "model": train,
    "live-data": live_data,
    "dashboard": dashboard,
}


def part(world: World, now_us: int) -> Parts:
    """The world's payments, moved by whole days so that the first live day is today, parted at `now_us`."""
    days = now_us // DAY_US - day_number(world.live_start)
    rows = world.with_history(world.protocol.train_start)
    moved = pc.add(rows["timestamp"], pa.scalar(timedelta(days=days), pa.duration("us")))
    rows = rows.set_column(rows.column_names.index("timestamp"), "timestamp", moved)
    first = int(np.searchsorted(_us(rows["timestamp"]), now_us, side="right"))
    past, live = rows.slice(0, first), rows.slice(first)
    labels = labels_of(past)
    known = pc.less_equal(labels["reported_at"].cast(pa.int64()), now_us)
    return Parts(events_of(past), labels.filter(known), events_of(live), labels_of(live))


def _data(folder: Path, config: SimulatorConfig) -> None:
    """The files of the four steps, made once: what is in the log already is not moved again."""
    if (folder / "live" / "labels.parquet").is_file():
        return
    parts = part(World(config, folder.parent.parent if folder == FOLDER else folder), SystemClock().now_us())
    for place, payments, labels in (
        ("past", parts.past, parts.past_labels),
        ("live", parts.live, parts.live_labels),
    ):
        (folder / place).mkdir(exist_ok=True)
        pq.write_table(payments, folder / place / "payments.parquet")
        pq.write_table(labels, folder / place / "labels.parquet")
    pq.write_table(parts.past.slice(max(0, parts.past.num_rows - NEWEST)), folder / "past" / "newest.parquet")
    print(f"{parts.past.num_rows:,} payments up to now, {parts.live.num_rows:,} to come.")


def _bring(folder: Path) -> None:
    """The project's definitions, as they are now."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "penstock.toml").write_text(SETTINGS, "utf-8")
    for name in DEFINITIONS:
        shutil.copy(HERE / name, folder / name)


def _files(folder: Path, places: Sequence[str]) -> list[str]:
    pairs = (text.split("=") for text in places)
    return [f"{source}={folder / place}" for source, place in pairs]


def _see(folder: Path, page: str, what: str) -> None:
    """Say which page shows the result."""
    notes, serve = running_notes(folder), load_settings(folder).serve
    running = notes is not None and notes.url
    url = notes.url if notes is not None and notes.url else f"http://{serve.host}:{serve.port}"
    first = "" if running else ", once `make dashboard` runs"
    print(f"\n{url}{page}  {what}{first}", flush=True)


def _us(times: pa.ChunkedArray) -> np.ndarray:
    found: np.ndarray = times.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.fraud.steps", description=__doc__)
    parser.add_argument("step", choices=STEPS, help="further options go to its last command of Penstock")
    parser.add_argument("--small", action="store_true", help="a fifth of the world, for a quick look")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="keep the project there")
    return parser


FOLDER = HERE / "data" / "steps"

if __name__ == "__main__":
    sys.exit(main())
