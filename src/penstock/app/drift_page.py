"""A drift report as one page: what alarms, every column with its thresholds, and how the drifted ones moved."""

from __future__ import annotations

from penstock.app.drifting import DriftReport
from penstock.core.time import from_us
from penstock.monitoring.charts import Chart, Series
from penstock.monitoring.drift import ColumnDrift, Measure
from penstock.monitoring.report import Grid, Report, Section, Tile, render_html

MOST_CHARTS = 24
METHODS = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli"}


def drift_page(report: DriftReport) -> str:
    """The page, self-contained, under 500 kB however many columns there are."""
    columns = _ranked(report.drift.columns)
    drifted = report.drift.drifted
    names = ", ".join(drifted[:6]) + (f" and {len(drifted) - 6} more" if len(drifted) > 6 else "")
    return render_html(
        Report(
            title=f"Drift of {report.endpoint}",
            subtitle=f"{report.version}, events of {_moment(report.start_us)} to {_moment(report.end_us)} UTC, "
            "against what it was trained on",
            warning=f"Drifted: {names}" if drifted else "",
            tiles=_tiles(report),
            sections=tuple(_sections(report, columns)),
        )
    )


def _tiles(report: DriftReport) -> tuple[Tile, ...]:
    columns = report.drift.columns
    score = next((c for c in columns if c.role == "score"), None)
    label = next((c for c in columns if c.role == "label"), None)
    reference = max((c.reference_rows for c in columns if c.role == "feature"), default=0)
    return (
        Tile("drifted", f"{len(report.drift.drifted)} of {len(columns)}", "features, score and label"),
        Tile("decisions compared", f"{report.rows:,}", f"with {reference:,} rows of training"),
        Tile("mean score", _mean(score), f"was {_mean(score, was=True)}"),
        Tile("mean label", _mean(label), f"was {_mean(label, was=True)}"),
    )


def _sections(report: DriftReport, columns: list[ColumnDrift]) -> list[Section]:
    drift = report.drift
    found = [
        Section(
            title="All columns",
            text="Each measure beside what it does not exceed without drift, at these numbers of rows. p is the joined "
            f"p-value after {METHODS[drift.method]}: a report without any drift alarms with a probability of at most "
            f"{drift.false_alarms:.0%}. Differences smaller than {drift.min_effect:g} are no alarm. Labels are of "
            f"{_moment(report.label_start_us)} to {_moment(report.label_end_us)}, which have had their time.",
            grid=Grid(
                (
                    "column",
                    "",
                    "p",
                    "PSI",
                    "KS",
                    "Wasserstein, sd",
                    "Jensen–Shannon",
                    "missing",
                    "was",
                    "unseen",
                ),
                tuple(_row(column) for column in columns),
                wide=True,
            ),
        ),
        Section(
            title="Distributions",
            text="Shares of rows by value or range, those that moved most first.",
            charts=tuple(_chart(column) for column in columns[:MOST_CHARTS] if column.bins),
        ),
    ]
    if report.change_points:
        rows = tuple(
            (p.stream, p.method, _moment(p.time_us), f"{p.before:.4g}", f"{p.after:.4g}")
            for p in report.change_points[:200]
        )
        text = "Where detectors noticed that a stream had changed, over all decisions; some hundred values after it did."
        found.append(
            Section(title="When", text=text, grid=Grid(("stream", "by", "at", "mean before", "after"), rows))
        )
    elif report.note:
        found.append(Section(title="When", text=report.note))
    return found


def _ranked(columns: tuple[ColumnDrift, ...]) -> list[ColumnDrift]:
    """Alarms first, then by certainty, then by size."""
    return sorted(columns, key=lambda c: (not c.drifted, 2.0 if c.p_value is None else c.p_value, -c.effect))


def _row(column: ColumnDrift) -> tuple[str, ...]:
    return (
        column.name,
        "drift" if column.drifted else "",
        "–" if column.adjusted_p_value is None else f"{column.adjusted_p_value:.2g}",
        *(
            "–" if column.p_value is None else _measure(m)
            for m in (column.psi, column.ks, column.wasserstein, column.jensen_shannon)
        ),
        f"{column.missing:.1%}",
        f"{column.reference_missing:.1%}",
        f"{column.unseen:.1%}" if column.is_discrete else "",
    )


def _chart(column: ColumnDrift) -> Chart:
    at = list(range(len(column.bins)))
    every = max(1, len(at) // 5)
    return Chart(
        title=f"{column.name}: {'drifted' if column.drifted else 'as it was'}",
        series=(
            Series("training", at, [100 * b.reference for b in column.bins], "bars", 0),
            Series("now", at, [100 * b.now for b in column.bins], "dots", 1),
        ),
        x_label="value" if column.is_discrete else "up to",
        y_label="% of rows",
        x_range=(-0.7, len(at) - 0.3),
        x_ticks=tuple((float(i), column.bins[i].label.removeprefix("≤ ")) for i in at[::every]),
    )


def _measure(measure: Measure) -> str:
    return f"{measure.value:.3f} / {measure.threshold:.3f}"


def _mean(column: ColumnDrift | None, *, was: bool = False) -> str:
    value = None if column is None else column.reference_mean if was else column.mean
    return "–" if value is None else f"{value:.4g}"


def _moment(us: int) -> str:
    return f"{from_us(us):%Y-%m-%d %H:%M}"
