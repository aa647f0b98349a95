"""All figures of an endpoint at once: overall, by version, arm and segment, by day, with curves. One pass over the decisions."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.app.measuring import Progress, count, empty_board, metrics_of, scored_batches
from penstock.core.time import DAY_US
from penstock.monitoring.board import ALL, RANKED, Board, Group
from penstock.monitoring.prequential import Prequential

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.definitions.monitors import Monitor
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import Plan

CURVE_POINTS = 200
SCORE_STEPS = 50


def metrics_report(
    store: LogReader,
    plan: Plan,
    monitor: Monitor,
    *,
    thresholds: Sequence[float] | None = None,
    as_of_us: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The figures that `penstock metrics` shows, for every ``--by``, as JSON values; see `stored_board` for the parameters.

    ``groups`` holds one entry a version, arm and value of a segment; ``days`` the whole endpoint by UTC day. Of all decisions,
    versions and arms of a classifier there are ``curves`` and ``scores``, too.
    """
    board = empty_board(monitor, thresholds=thresholds)
    daily = empty_board(monitor, thresholds=thresholds, keep_all=True, slot_us=DAY_US)
    for scored, labels, _ in scored_batches(store, plan, monitor, as_of_us=as_of_us, progress=progress):
        count(board, scored, labels)
        count(daily, replace(scored, groups={}), labels)
    found = metrics_of(board, monitor).to_dict()
    del found["rows"]
    groups = [group for group in board.groups if group != ALL]
    return {
        **found,
        **_shape(board, ALL),
        "groups": [_group(board, group) for group in groups],
        "days": [asdict(day) for day in daily.days()],
    }


def _group(board: Board, group: Group) -> dict[str, Any]:
    quality = asdict(board.total(group).summary())
    found = {"dimension": group.dimension, "value": group.value, "quality": quality}
    return found | (_shape(board, group) if group.dimension in RANKED else {"curves": None, "scores": None})


def _shape(board: Board, group: Group) -> dict[str, Any]:
    """Curves and distribution of scores of a group; None each where its task has none."""
    cell = board.total(group)
    if not isinstance(cell, Prequential):
        return {"curves": None, "scores": None}
    alarms, recall, precision = cell.curves()
    chosen = _thinned(alarms, recall)
    decided, negatives, positives = cell.score_counts(SCORE_STEPS)
    return {
        "curves": {
            "false_positive_rate": alarms[chosen].tolist(),
            "recall": recall[chosen].tolist(),
            "precision": precision[chosen].tolist(),
        },
        "scores": {
            "edges": np.linspace(0.0, 1.0, SCORE_STEPS + 1).tolist(),
            "decided": decided.tolist(),
            "negatives": negatives.tolist(),
            "positives": positives.tolist(),
        },
    }


def _thinned(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """At most `CURVE_POINTS` points, evenly along the curve, with both ends."""
    if len(x) <= CURVE_POINTS:
        return np.arange(len(x))
    along = np.cumsum(np.abs(np.diff(x, prepend=0.0)) + np.abs(np.diff(y, prepend=0.0)))
    wanted = np.linspace(along[0], along[-1], CURVE_POINTS)
    return np.unique(np.minimum(np.searchsorted(along, wanted), len(x) - 1))
