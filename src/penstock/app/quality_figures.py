"""How good decisions were, for who watches from outside: one pass over the newest mature window, in a process of its own that ends with it.

The window is the shortest of the endpoint's monitor. Decisions are told apart by arm and version, the most frequent of both; all together have neither.

    python -m penstock.app.quality_figures PROJECT
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.app.child import stand_back, told
from penstock.app.measuring import (
    Batches,
    Counting,
    Progress,
    count,
    counted,
    empty_board,
    monitor_of,
    scored_batches,
)
from penstock.app.retraining_data import newest_time, position_since
from penstock.app.runtime import open_reader, plan_of, registry_of, state_folder
from penstock.app.version_thresholds import VersionThresholds
from penstock.core.clock import SystemClock
from penstock.core.errors import PenstockError
from penstock.core.time import to_us
from penstock.definitions.monitors import Monitor
from penstock.definitions.project import load_project
from penstock.models.segments import OTHER, Coded
from penstock.monitoring.board import ALL, Board, Group

if TYPE_CHECKING:
    from penstock.app.measuring import FloatArray
    from penstock.core.clock import Clock
    from penstock.definitions.project import Project
    from penstock.engine.decisions import Decisions
    from penstock.monitoring.board import Scored
    from penstock.monitoring.segment_counts import Told
    from penstock.plan.nodes import Plan
    from penstock.stores.reader import ProjectReader

FILE = "quality.json"
FIGURES = ("average_precision", "roc_auc", "log_loss", "calibration_error", "mae", "rmse", "bias")
OF_ACTIONS = ("recall", "precision", "false_positive_rate")
_WHO, _BETWEEN = "who", "\t"


class QualityOf(msgspec.Struct, frozen=True):
    """The quality of an arm's version in the window; of all decisions both are empty.

    Attributes
    ----------
    states
        How many decisions are ``labelled``, ``positive``, ``pending`` (in the window, without a label), and ``young`` (after it).
    figures
        By name, of those that the task has and labels allow; see `FIGURES`.
    actions
        By action the same of `OF_ACTIONS`, at its threshold.
    """

    arm: str
    version: str
    states: dict[str, int]
    figures: dict[str, float]
    actions: dict[str, dict[str, float]]


class EndpointQuality(msgspec.Struct, frozen=True):
    """The figures of an endpoint, when they were made, and where in event time their window ends."""

    endpoint: str
    made_us: int
    end_us: int
    groups: list[QualityOf]


_decoder = msgspec.json.Decoder(list[EndpointQuality])


def measured(project: Project) -> list[Monitor]:
    """The monitors of the endpoints that have labels to be measured by."""
    labelled = [name for name, one in project.endpoints.items() if one.model.label is not None]
    return [monitor_of(project, name) for name in labelled]


def read_quality(root: Path) -> list[EndpointQuality]:
    """What was made last; nothing where nothing was."""
    try:
        return _decoder.decode((state_folder(root) / FILE).read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def quality_of(
    project: Project,
    plan: Plan,
    store: ProjectReader,
    monitor: Monitor,
    *,
    clock: Clock,
    progress: Progress | None = None,
) -> EndpointQuality | None:
    """The newest mature window of an endpoint; None while nothing was decided, or none is mature."""
    endpoint = plan.endpoints[monitor.endpoint.name]
    newest = newest_time(store, plan, monitor.endpoint.model, stop=store.next_position)
    if newest is None:
        return None
    shortest = _shortest(monitor)
    reach = to_us(monitor.delay) + to_us(shortest.windows[0]) + 2 * shortest.slot_us
    start = position_since(
        store, plan, monitor.endpoint.model, since_us=newest - reach, stop=store.next_position
    )
    thresholds = VersionThresholds(endpoint, registry_of(project.root, clock=clock))
    made: list[Board] = []

    def begin(values: Told | None) -> Counting:
        made.append(empty_board(shortest, thresholds=thresholds.in_force, told=values))
        return made[-1], lambda scored, labels, _: count(made[-1], scored, labels)

    def batches() -> Batches:
        found = scored_batches(store, plan, shortest, thresholds=thresholds, start=start, progress=progress)
        return (_by_who(*batch) for batch in found)

    counted(shortest, begin, batches)
    board = made[-1]
    if board.newest_us is None:
        return None
    groups = [_group(board, group) for group in board.groups if group.value != OTHER]
    return EndpointQuality(endpoint.name, clock.now_us(), board.windows()[0].end_us, groups)


def _shortest(monitor: Monitor) -> Monitor:
    """The monitor with its shortest window, and without segments."""
    return Monitor(
        monitor.name,
        endpoint=monitor.endpoint,
        windows=[monitor.windows[0]],
        delay=monitor.delay,
        quantile=monitor.quantile,
        max_segments=monitor.max_segments,
        nab_profile=monitor.nab_profile,
    )


def _by_who(scored: Scored, labels: FloatArray, decisions: Decisions) -> tuple[Scored, FloatArray, Decisions]:
    """Told apart by arm and version together."""
    version = scored.groups["version"]
    arm = scored.groups.get("arm") or Coded(np.zeros(len(scored.scores), np.int64), ("",))
    names = [f"{one}{_BETWEEN}{other}" for one in arm.names for other in version.names]
    codes = arm.codes * len(version.names) + version.codes
    return replace(scored, groups={_WHO: Coded(codes, tuple(names))}), labels, decisions


def _group(board: Board, group: Group) -> QualityOf:
    window, young = board.windows(group)
    quality = asdict(window.quality)
    after = asdict(young.quality)
    arm, _, version = ("", "", "") if group == ALL else group.value.partition(_BETWEEN)
    return QualityOf(
        arm,
        version,
        {
            "labelled": quality["labelled"],
            **({"positive": quality["positives"]} if "positives" in quality else {}),
            "pending": quality["pending"],
            "young": after["labelled"] + after["pending"],
        },
        _known(quality, FIGURES),
        {point["action"]: _known(point, OF_ACTIONS) for point in quality.get("points", ())},
    )


def _known(figures: dict[str, float | None], names: tuple[str, ...]) -> dict[str, float]:
    return {name: value for name in names if (value := figures.get(name)) is not None}


def _while_wanted(_done: int, _total: int) -> None:
    """Whoever started this has ended: so does it."""
    if told(0) == b"":
        raise SystemExit(0)


def make(root: Path, *, clock: Clock, progress: Progress | None = None) -> None:
    """Measure every endpoint that has labels, and write what came of it."""
    project = load_project(root)
    plan = plan_of(project)
    with open_reader(root, patient=True) as store:
        every = [
            quality_of(project, plan, store, one, clock=clock, progress=progress) for one in measured(project)
        ]
    path = state_folder(root) / FILE
    aside = path.with_name(f".{FILE}.tmp")
    aside.write_bytes(msgspec.json.encode([one for one in every if one is not None]))
    aside.replace(path)


def main(root: Path) -> int:
    """One pass."""
    stand_back()
    try:
        make(root, clock=SystemClock(), progress=_while_wanted)
    except (PenstockError, OSError) as error:
        sys.stderr.write(f"penstock: quality: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main(Path(sys.argv[1])))
