"""The picture of a detector's evaluation: how rare each event was over time, and when something was wrong."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from penstock.models.plots import MARKS, MODEL, SOFT, render, titled
from penstock.monitoring.nab import anomaly_windows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from penstock.models.evaluation_anomaly import AnomalyReport, Series

_RAREST = 1e-6
_MOST_POINTS = 20_000
"""Of more events only the rarest are drawn."""


def draw_scores(series: Series, report: AnomalyReport, *, title: str) -> bytes:
    """A PNG of ``1 - score`` over time, rare at the top, with thresholds as lines and labelled anomalies shaded."""
    shown = np.sort(np.argsort(-series.scores, kind="stable")[:_MOST_POINTS])
    times = series.times_us[shown].astype("M8[us]")
    rarity = np.maximum(1.0 - series.scores[shown], _RAREST)

    def draw(axes: Axes) -> None:
        for start_us, end_us in _wrong(series):
            first, last = np.array([start_us, end_us]).astype("M8[us]")
            axes.axvspan(first, last, color=MARKS[0], alpha=0.25, linewidth=0)
        axes.plot(times, rarity, linestyle="none", marker=".", markersize=2.5, color=MODEL)
        for index, alarm in enumerate(report.alarms):
            nab = "" if alarm.nab is None else f", NAB {alarm.nab:.0f}"
            label = f"{alarm.action} ≥ {alarm.threshold:.5g}: {alarm.per_day:.1f} a day{nab}"
            limit = max(1.0 - alarm.threshold, _RAREST)
            axes.axhline(limit, color=MARKS[(index + 1) % len(MARKS)], linewidth=1.2, label=label)
        axes.set_yscale("log")
        axes.set_ylim(1.5, _RAREST / 2)
        titled(axes, title=title, subtitle="How rare, one dot an event; shaded: something was wrong")
        axes.set_ylabel("1 - score")
        axes.tick_params(length=0, axis="x", rotation=30, colors=SOFT)
        if report.alarms:
            axes.legend(loc="upper left")

    return render(draw)


def _wrong(series: Series) -> list[tuple[int, int]]:
    """First and last time of each labelled anomaly."""
    found: chain[tuple[int, int]] = chain.from_iterable(
        _spans(one.times_us, one.labels) for one in series.alone()
    )
    return sorted(found)


def _spans(times_us: NDArray[np.int64], labels: NDArray[np.float64]) -> list[tuple[int, int]]:
    return [(int(times_us[first]), int(times_us[last])) for first, last in anomaly_windows(labels)]
