"""What the store holds of an endpoint, as a report: nothing is remembered that was not durable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.app.metering import labelled_decisions
from penstock.core.time import DAY_US, from_us
from penstock.kernel.columns import Columns
from penstock.models.evaluation import calibration_bins
from penstock.monitoring.charts import Chart, Series
from penstock.monitoring.prequential import Prequential
from penstock.monitoring.report import Grid, Section, Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.engine.audit import AuditReport
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import Plan

CURVE_POINTS = 400
SCORE_EDGES = np.logspace(-5, 0, 41)
SHARES = ((0.0001, "0.01 %"), (0.001, "0.1 %"), (0.01, "1 %"), (0.1, "10 %"), (1.0, "100 %"))
TENTHS = tuple((i / 5, f"{i * 20} %") for i in range(6))


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """Every decision of an endpoint: event times (int64 µs), scores, action codes, labels (NaN: none yet)."""

    times_us: NDArray[np.int64]
    scores: NDArray[np.float64]
    taken: NDArray[np.uint8]
    labels: NDArray[np.float64]
    actions: tuple[str, ...]
    quality: Prequential

    def __len__(self) -> int:
        return len(self.scores)


def collect(store: LogReader, plan: Plan, endpoint: str) -> Decided:
    """Read the decisions and labels of `endpoint`."""
    node = plan.endpoints[endpoint]
    quality = Prequential(dict(zip(node.actions[1:], node.thresholds, strict=True)))
    parts: list[tuple[Any, ...]] = []
    for positions, decisions, labels in labelled_decisions(store, endpoint):
        known = ~np.isnan(labels)
        quality.decided(len(positions))
        quality.add(decisions.scores[known], labels[known])
        parts.append((positions, decisions.scores, decisions.taken, labels))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] or [np.zeros(0)] * 4
    times = _times(store, node.source, plan.sources[node.source].time_field, columns[0])
    return Decided(times, columns[1], columns[2], columns[3], node.actions, quality)


def _times(store: LogReader, source: str, column: str, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(positions):
        return np.zeros(0, np.int64)
    places, times = [], []
    for batch in store.read_log(int(positions[0]), sources={source}):
        places.append(batch.positions)
        times.append(Columns.from_bytes(batch.payload)[column].values)  # type: ignore[union-attr]
    found: NDArray[np.int64] = np.concatenate(times)[np.searchsorted(np.concatenate(places), positions)]
    return found


def quality_section(decided: Decided) -> Section:
    """Quality at the policy's thresholds and over all thresholds."""
    now = decided.quality.summary()
    rows = tuple(
        (
            point.action,
            f"{point.threshold:g}",
            _share(point.precision),
            _share(point.recall),
            _share(point.false_positive_rate, digits=2),
            f"{point.true_positives:,}",
            f"{point.false_positives:,}",
        )
        for point in now.points
    )
    return Section(
        title="Quality so far",
        text=f"Over {now.labelled:,} decisions whose label has arrived. The {now.pending:,} that wait for theirs are "
        "pending, not genuine: they count nowhere. Cards known to be stolen are not taken out, as a test week would do.",
        grid=Grid(("action", "score ≥", "precision", "recall", "false alarms", "frauds", "genuine"), rows),
        charts=tuple(_quality_charts(decided)),
    )


def _quality_charts(decided: Decided) -> list[Chart]:
    now = decided.quality.summary()
    if now.average_precision is None or now.roc_auc is None or now.positive_rate is None:
        return []
    alarms, recall, precision = (_thinned(curve) for curve in decided.quality.curves())
    marks = [(index, point) for index, point in enumerate(now.points, start=1) if point.precision is not None]
    base = now.positive_rate
    return [
        Chart(
            title=f"Precision and recall, average precision {now.average_precision:.3f}",
            series=(
                Series("model", recall, precision, "line"),
                Series(f"base rate {base:.2%}", (0, 1), (base, base), "reference"),
                *(Series(p.action, (p.recall or 0,), (p.precision or 0,), "dots", i) for i, p in marks),
            ),
            x_label="recall: share of frauds found",
            y_label="precision",
            x_range=(0, 1),
            y_range=(0, 1),
            x_ticks=TENTHS,
            y_ticks=TENTHS,
        ),
        Chart(
            title=f"ROC, area {now.roc_auc:.3f}",
            series=(
                Series("model", (0, *alarms), (0, *recall), "line"),
                Series("chance", (0, 1), (0, 1), "reference"),
                *(
                    Series(p.action, (p.false_positive_rate or 0,), (p.recall or 0,), "dots", i)
                    for i, p in marks
                ),
            ),
            x_label="share of genuine payments alarmed",
            y_label="recall",
            x_range=(0, 1),
            y_range=(0, 1),
            x_ticks=TENTHS,
            y_ticks=TENTHS,
        ),
        _scores(decided),
        _calibration(decided),
    ]


def _scores(decided: Decided) -> Chart:
    known = ~np.isnan(decided.labels)
    scores = np.clip(decided.scores[known], SCORE_EDGES[0], SCORE_EDGES[-1])
    fraud = decided.labels[known] > 0
    middles = np.sqrt(SCORE_EDGES[1:] * SCORE_EDGES[:-1]).tolist()
    counts = [np.histogram(scores[mask], SCORE_EDGES)[0].astype(float) for mask in (~fraud, fraud)]
    lines = [np.where(count > 0, count, np.nan).tolist() for count in counts]
    return Chart(
        title="Scores of genuine payments and frauds",
        series=(
            Series("genuine", middles, lines[0], "line", 3),
            Series("fraud", middles, lines[1], "line", 1),
        ),
        x_label="score",
        y_label="payments",
        x_scale="log",
        y_scale="log",
        x_range=(SCORE_EDGES[0], 1.0),
        y_range=(0.8, 10 ** np.ceil(np.log10(max(counts[0].max(), 10)))),
        note="Both axes are logarithmic; scores below 0.00001 stand at the left end.",
    )


def _calibration(decided: Decided) -> Chart:
    known = ~np.isnan(decided.labels) & ~np.isnan(decided.scores)
    bins = calibration_bins(decided.labels[known] > 0, decided.scores[known])
    seen = [b for b in bins if b.positive_rate > 0 and b.mean_score > 0]
    low = SHARES[0][0]
    return Chart(
        title="Calibration: what was predicted, and what happened",
        series=(
            Series("perfect", (low, 1), (low, 1), "reference"),
            Series("model", [b.mean_score for b in seen], [b.positive_rate for b in seen], "line", 0),
            Series("", [b.mean_score for b in seen], [b.positive_rate for b in seen], "dots", 0),
        ),
        x_label="mean score",
        y_label="share of frauds",
        x_scale="log",
        y_scale="log",
        x_range=(low, 1),
        y_range=(low, 1),
        x_ticks=SHARES,
        y_ticks=SHARES,
        note="One dot a bin of scores, finer towards the top; bins without a fraud have no dot.",
    )


def stream_section(decided: Decided, timeline: Sequence[dict[str, float]]) -> Section:
    """Alerts and frauds a day of event time, throughput and latency of the last run."""
    return Section(
        title="The stream",
        text="Alerts and frauds by the day of the payment; throughput and latency by the time of the last run.",
        charts=(*_daily_charts(decided), *_speed_charts(timeline)),
    )


def _daily_charts(decided: Decided) -> list[Chart]:
    if not len(decided):
        return []
    first = int(decided.times_us.min() // DAY_US)
    days = decided.times_us // DAY_US - first
    count = int(days.max()) + 1
    at = list(range(count))
    every = max(1, count // 6)
    ticks = tuple((float(d), f"{from_us((first + d) * DAY_US):%d %b}") for d in range(0, count, every))
    series, base = [], np.zeros(count)
    for code in range(len(decided.actions) - 1, 0, -1):
        top = base + np.bincount(days[decided.taken == code], minlength=count)
        series.append(
            Series(
                decided.actions[code],
                at,
                top.tolist(),
                "bars",
                code,
                None if not base.any() else base.tolist(),
            )
        )
        base = top
    known = ~np.isnan(decided.labels)
    labelled = np.bincount(days[known], minlength=count)
    frauds = np.bincount(days[known & (decided.labels > 0)], minlength=count)
    rate = np.divide(frauds * 100.0, labelled, out=np.full(count, np.nan), where=labelled > 0)
    axis = {"spark": True, "x_label": "day of the payment", "x_ticks": ticks, "x_range": (-0.6, count - 0.4)}
    return [
        Chart(title="Alerts a day", series=tuple(series), y_label="decisions", **axis),  # type: ignore[arg-type]
        Chart(
            title="Fraud rate",
            series=(Series("of labelled payments", at, rate.tolist(), "line", 1),),
            y_label="%",
            note="The last days' labels have not arrived.",
            **axis,  # type: ignore[arg-type]
        ),
    ]


def _speed_charts(timeline: Sequence[dict[str, float]]) -> list[Chart]:
    if len(timeline) < 2:
        return []
    at = [point["at_s"] for point in timeline]
    return [
        Chart(
            title="Throughput",
            series=(Series("events/s", at, [p["events_per_s"] for p in timeline]),),
            spark=True,
            x_label="seconds since the start",
            y_label="events/s",
        ),
        Chart(
            title="Latency",
            series=(
                Series("mean", at, [p["mean_latency_s"] * 1000 for p in timeline]),
                Series("longest", at, [p["max_latency_s"] * 1000 for p in timeline], "line", 1),
            ),
            spark=True,
            x_label="seconds since the start",
            y_label="ms",
            note="Of a micro-batch, from hand-in to durable.",
        ),
    ]


def quality_tiles(decided: Decided) -> list[Tile]:
    """The figures of the decisions."""
    now = decided.quality.summary()
    alerts = int((decided.taken > 0).sum())
    by_action = ", ".join(
        f"{int((decided.taken == code).sum()):,} {action}"
        for code, action in enumerate(decided.actions)
        if code
    )
    return [
        Tile("events decided", f"{len(decided):,}", _span(decided)),
        Tile("alerts", f"{alerts:,}", by_action),
        Tile("fraud rate", _share(now.positive_rate, digits=2), f"of {now.labelled:,} labelled"),
        Tile("average precision", _figure(now.average_precision), f"ROC AUC {_figure(now.roc_auc)}"),
        Tile("labels pending", f"{now.pending:,}", "not counted as genuine"),
    ]


def audit_tile(report: AuditReport | None) -> Tile:
    """What the audit found."""
    if report is None:
        return Tile("audit", "not run", "the run was interrupted")
    note = f"of {report.values:,} values recomputed from the log"
    return Tile("audit", f"{report.differing:,} differing", note)


def _span(decided: Decided) -> str:
    if not len(decided):
        return ""
    first, last = from_us(int(decided.times_us.min())), from_us(int(decided.times_us.max()))
    return f"{first:%d %b} to {last:%d %b %Y}" if last - first >= timedelta(days=1) else f"{first:%d %b %Y}"


def _thinned(curve: NDArray[np.float64]) -> list[float]:
    """At most `CURVE_POINTS` points, evenly by number, with both ends."""
    rows = np.unique(np.linspace(0, len(curve) - 1, CURVE_POINTS).astype(int))
    return [round(v, 5) for v in curve[rows].tolist()]


def _share(value: float | None, *, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
