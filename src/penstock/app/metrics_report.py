"""All figures of an endpoint at once: overall, by version, arm and segment, by day, with curves."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.app.measuring import (
    Batches,
    Counting,
    FloatArray,
    Progress,
    anomaly_rows,
    count,
    counted,
    empty_board,
    group_metrics,
    metrics_of,
    scored_batches,
    taker,
)
from penstock.core.time import DAY_US
from penstock.monitoring.board import ALL, Board, Group
from penstock.monitoring.prequential import Prequential

if TYPE_CHECKING:
    from penstock.app.anomalies import AnomalyRows
    from penstock.app.version_thresholds import VersionThresholds
    from penstock.definitions.monitors import Monitor
    from penstock.engine.decisions import Decisions
    from penstock.engine.ports import LogReader
    from penstock.monitoring.board import Scored
    from penstock.monitoring.segment_counts import Told
    from penstock.plan.nodes import Plan

MEASURES = (
    "labelled", "pending", "positives", "positive_rate", "average_precision", "roc_auc", "log_loss", "brier",
    "calibration_error", "unevenness", "mae", "rmse", "bias", "pinball",
)  # fmt: skip
POINT_MEASURES = ("action", "precision", "recall", "f1", "false_positive_rate", "cost")
"""What is told of rolling windows."""
CURVE_POINTS = 200
SCORE_STEPS = 50
_CURVED = frozenset({"version", "arm"})


def metrics_report(
    store: LogReader,
    plan: Plan,
    monitor: Monitor,
    *,
    thresholds: VersionThresholds | None = None,
    as_of_us: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The figures that `penstock metrics` shows, for every ``--by``, as JSON values; see `stored_board` for the parameters.

    ``groups`` holds one entry a version, arm and value of a segment, each with the same windows as all decisions, and its ``course``:
    the shortest window, rolling; ``days`` the whole endpoint by UTC day. Of all decisions, versions and arms of a classifier there
    are ``curves`` and ``scores``, too.
    """
    in_force = None if thresholds is None else thresholds.in_force
    made: list[tuple[Board, Board, AnomalyRows | None]] = []

    def begin(told: Told | None) -> Counting:
        board = empty_board(monitor, thresholds=in_force, told=told)
        daily = empty_board(monitor, thresholds=in_force, keep_all=True, slot_us=DAY_US)
        anomalies = anomaly_rows(monitor, board, thresholds=thresholds)
        made.append((board, daily, anomalies))
        take = taker(board, anomalies)

        def both(scored: Scored, labels: FloatArray, decisions: Decisions) -> None:
            take(scored, labels, decisions)
            count(daily, replace(scored, groups={}), labels)

        return board, both

    def batches() -> Batches:
        return scored_batches(
            store, plan, monitor, thresholds=thresholds, as_of_us=as_of_us, progress=progress
        )

    counted(monitor, begin, batches)
    board, daily, anomalies = made[-1]
    return {
        **asdict(metrics_of(board, monitor, anomalies=anomalies)),
        **_shape(board, ALL),
        "course": course(board, ALL),
        "groups": [_group(board, group, anomalies) for group in board.groups if group != ALL],
        "days": [asdict(day) for day in daily.days()],
    }


def _group(board: Board, group: Group, anomalies: AnomalyRows | None) -> dict[str, Any]:
    found = asdict(group_metrics(board, group, anomalies)) | {"course": course(board, group)}
    shape = _shape(board, group) if group.dimension in _CURVED else {"curves": None, "scores": None}
    return found | shape


def course(board: Board, group: Group) -> list[dict[str, Any]]:
    """Figures of the shortest window as it rolls on by days, oldest first; see `Board.rolling`."""
    return [
        {"end_us": one.end_us, "mature": one.mature, **_told(asdict(one.quality), MEASURES)}
        | {"points": [_told(point, POINT_MEASURES) for point in asdict(one.quality).get("points", ())]}
        for one in board.rolling(group)
    ]


def _told(figures: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: figures[name] for name in names if figures.get(name) is not None}


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
