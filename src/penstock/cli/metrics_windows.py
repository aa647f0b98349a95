"""Windows of ``penstock metrics``: of all decisions one under another, of groups side by side in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from penstock.cli.output import number, print_table, say

if TYPE_CHECKING:
    from penstock.app.measuring import GroupMetrics, Metrics
    from penstock.models.evaluation_anomaly import AlarmReport
    from penstock.monitoring.board import Window
    from penstock.monitoring.estimates import Estimate

Cells = tuple[str, ...]


def print_windows(found: Metrics) -> None:
    """The newest windows of all decisions, and what scores let one expect of each."""
    heads, cells = columns_of(found.task)
    rows: list[Cells] = []
    for window in found.windows:
        rows += _rows(period(window), window, cells)
    print_table(rows, head=("events of", "", *heads), right=range(2, 2 + len(heads)))
    alarmed = [(period(window), alarm) for window in found.windows for alarm in window.alarms]
    if alarmed:
        say()
        _print_alarms("events of", alarmed)


def print_groups(found: Metrics) -> None:
    """Each group since the beginning, then side by side in each window."""
    dimension = found.groups[0].dimension
    heads, cells = total_columns_of(found.task)
    say()
    say("since the beginning")
    rows = [(_name(group), *cells(group.quality)) for group in found.groups]
    print_table(rows, head=(dimension, *heads), right=range(1, 1 + len(heads)))
    since = [(_name(group), alarm) for group in found.groups for alarm in group.alarms]
    if since:
        say()
        _print_alarms(dimension, since)
    for at, window in enumerate(found.windows):
        say()
        say(
            f"events of {period(window)}, {'all labels had their time' if window.mature else 'labels still come'}"
        )
        _print_window(found, dimension, at)


def _print_window(found: Metrics, dimension: str, at: int) -> None:
    """The window of each group; groups that decided nothing in it are left out."""
    heads, cells = columns_of(found.task)
    there = [(_name(group), group.windows[at]) for group in found.groups if _decided(group.windows[at])]
    rows = [row for name, window in there for row in _rows(name, window, cells)]
    print_table(rows, head=(dimension, "", *heads), right=range(2, 2 + len(heads)))
    points = [(name, point) for name, window in there for point in getattr(window.quality, "points", ())]
    alarmed = [(name, alarm) for name, window in there for alarm in window.alarms]
    if alarmed:
        say()
        _print_alarms(dimension, alarmed)
    elif points and found.windows[at].mature:
        say()
        print_points(points, first=dimension)


def print_points(points: Sequence[tuple[str, Any]], *, first: str | None = None) -> None:
    """What thresholds were worth; with `first` each under the name that it comes with."""
    rows = [
        (
            *((name,) if first else ()),
            f"{p.action} ≥ {p.threshold:g}{'' if p.highest is None else f'…{p.highest:g}'}",
            number(p.precision),
            number(p.recall),
            number(p.f1),
            number(p.false_positive_rate, 4),
            number(p.cost, 2),
        )
        for name, p in points
    ]
    head = (*((first,) if first else ()), "action", "precision", "recall", "F1", "false alarms", "cost")
    print_table(rows, head=head, right=range(len(head) - 5, len(head)))


def columns_of(task: str) -> tuple[Cells, Callable[[Window], Cells]]:
    """Heads of a window's columns, and what makes their cells."""
    if task == "regression":
        return ("labelled", "pending", "MAE", "RMSE", "bias", "pinball"), _regression_cells
    if task == "anomaly":
        return ("decided", "labelled", "positive", "AP", "ROC AUC", "uneven"), _anomaly_cells
    return ("labelled", "pending", "positive", "AP", "ROC AUC", "P@k"), _binary_cells


def total_columns_of(task: str) -> tuple[Cells, Callable[[Any], Cells]]:
    """The same for a quality since the beginning."""
    if task == "regression":
        return ("labelled", "pending", "MAE", "RMSE", "bias", "pinball"), _regression_total
    if task == "anomaly":
        return ("decided", "labelled", "positive", "AP", "ROC AUC", "uneven"), _anomaly_total
    return ("labelled", "positive", "AP", "ROC AUC", "log loss", "ECE"), _binary_total


def period(window: Window) -> str:
    """When a window begins and ends, by days where it does."""
    from penstock.core.time import DAY_US, from_us

    start, end = from_us(window.start_us), from_us(window.end_us)
    pattern = "%m-%d %H:%M" if window.start_us % DAY_US or window.end_us % DAY_US else "%m-%d"
    return f"{start:{pattern}}…{end:{pattern}}"


def _rows(name: str, window: Window, cells: Callable[[Window], Cells]) -> Iterator[Cells]:
    """What is known of a window, and under it what scores let one expect."""
    yield (name, "truth" if window.mature else "so far", *cells(window))
    if window.estimate is not None:
        yield _estimated(window.estimate)


def _estimated(estimate: Estimate) -> Cells:
    return (
        "",
        "estimate" if estimate.calibrated_on else "raw scores",
        number(estimate.decided),
        "",
        number(round(estimate.positives)),
        number(estimate.average_precision),
        number(estimate.roc_auc),
        "",
    )


def _print_alarms(first: str, alarmed: Sequence[tuple[str, AlarmReport]]) -> None:
    rows = [
        (
            name,
            f"{alarm.action} ≥ {alarm.threshold:.5g}{'' if alarm.highest is None else f'…{alarm.highest:.5g}'}",
            number(alarm.per_day, 1),
            number(alarm.nab, 1),
            f"{number(alarm.found)} of {number(alarm.windows)}" if alarm.windows else "–",
            number(alarm.precision),
            number(alarm.false_positive_rate, 4),
        )
        for name, alarm in alarmed
    ]
    head = (first, "action", "a day", "NAB", "found", "precision", "false alarms")
    print_table(rows, head=head, right=range(2, len(head)))


def _name(group: GroupMetrics) -> str:
    return group.value or "–"


def _decided(window: Window) -> bool:
    quality = window.quality
    return bool(quality.labelled + quality.pending)


def _binary_cells(window: Window) -> Cells:
    quality: Any = window.quality
    ranked = window.card_precision
    return (
        number(quality.labelled),
        number(quality.pending),
        number(quality.positives),
        number(quality.average_precision),
        number(quality.roc_auc),
        "–" if ranked is None else number(ranked.value),
    )


def _binary_total(quality: Any) -> Cells:
    return (
        number(quality.labelled),
        number(quality.positives),
        number(quality.average_precision),
        number(quality.roc_auc),
        number(quality.log_loss, 4),
        number(quality.calibration_error, 4),
    )


def _anomaly_cells(window: Window) -> Cells:
    return _anomaly_total(window.quality)


def _anomaly_total(quality: Any) -> Cells:
    return (
        number(quality.labelled + quality.pending),
        number(quality.labelled),
        number(quality.positives),
        number(quality.average_precision),
        number(quality.roc_auc),
        number(quality.unevenness),
    )


def _regression_cells(window: Window) -> Cells:
    return _regression_total(window.quality)


def _regression_total(quality: Any) -> Cells:
    return (
        number(quality.labelled),
        number(quality.pending),
        number(quality.mae),
        number(quality.rmse),
        number(quality.bias),
        number(quality.pinball),
    )
