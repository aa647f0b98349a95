"""The pictures of an evaluation: ROC, precision-recall and calibration, as PNG bytes.

One style for all: thin axes, light grid, one strong colour for the model, grey for what it is compared with. The policy's
thresholds are marked where they operate.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.models.evaluation import BinaryReport, calibration_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from penstock.models.thresholds import ChosenThreshold

INK, SOFT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
MODEL, MARKS = "#0b6e99", ("#d9730d", "#b3261e", "#6940a5", "#448361")
CURVE_CELLS = 2000

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "figure.figsize": (6.0, 4.6),
    "figure.facecolor": "white",
    "savefig.dpi": 150,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
}


def draw_evaluation(
    labels: NDArray[Any], scores: NDArray[np.float64], *, report: BinaryReport, title: str
) -> Mapping[str, bytes]:
    """All pictures of a binary model: ``{"roc.png": bytes, "precision_recall.png": ..., "calibration.png": ...}``.

    Curves that need both classes are left out when the test holds one.
    """
    truth = np.asarray(labels) > 0
    pictures = {"calibration.png": draw_calibration(truth, scores, title=title)}
    if 0 < report.positives < report.rows:
        pictures["roc.png"] = draw_roc(truth, scores, report=report, title=title)
        pictures["precision_recall.png"] = draw_precision_recall(truth, scores, report=report, title=title)
    return pictures


def draw_roc(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], *, report: BinaryReport, title: str
) -> bytes:
    """The ROC curve, with chance as a diagonal and the thresholds' operating points."""
    from sklearn.metrics import roc_curve

    false_positive_rate, recall, _ = roc_curve(truth, scores)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label="chance")
        x, y = _thinned(false_positive_rate, recall)
        axes.plot(x, y, color=MODEL, linewidth=2, label=f"model, AUC {report.roc_auc:.3f}")
        for index, at in enumerate(report.thresholds):
            if at.false_positive_rate is not None and at.recall is not None:
                label = f"{at.action} ≥ {at.threshold:g}: finds {at.recall:.0%}, alarms {at.false_positive_rate:.2%}"
                _mark(axes, at.false_positive_rate, at.recall, index=index, label=label)
        _finish(axes, title=title, subtitle="ROC", x="false positive rate", y="true positive rate (recall)")
        axes.legend(loc="lower right")

    return render(draw)


def draw_precision_recall(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], *, report: BinaryReport, title: str
) -> bytes:
    """Precision against recall, with the base rate as a line and the thresholds' operating points."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, scores)

    def draw(axes: Axes) -> None:
        rate = report.base_rate
        axes.axhline(rate, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label=f"base rate {rate:.2%}")
        x, y = _thinned(recall, precision)
        label = f"model, average precision {report.average_precision:.3f}"
        axes.plot(x, y, color=MODEL, linewidth=2, drawstyle="steps-pre", label=label)
        for index, at in enumerate(report.thresholds):
            if at.precision is not None and at.recall is not None:
                label = f"{at.action} ≥ {at.threshold:g}: {at.precision:.0%} right, finds {at.recall:.0%}"
                _mark(axes, at.recall, at.precision, index=index, label=label)
        _finish(axes, title=title, subtitle="Precision and recall", x="recall", y="precision")
        axes.legend(loc="upper right")

    return render(draw)


def draw_costs(found: ChosenThreshold, *, title: str) -> bytes:
    """The cost on the validation period by threshold, with the one that was chosen; doing nothing as a line."""
    thresholds, costs, per_day = (np.array(column) for column in zip(*found.curve, strict=True))

    def draw(axes: Axes) -> None:
        axes.axhline(found.idle_cost, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label="doing nothing")
        axes.plot(thresholds, costs, color=MODEL, linewidth=2, label="cost on the validation period")
        if found.budget is not None:
            axes.plot(
                *(column[per_day > found.budget] for column in (thresholds, costs)),
                color=GRID,
                linewidth=4,
                label=f"more than {found.budget:g} alerts a day",
            )
        label = f"{found.action} ≥ {found.threshold:.4g}: {found.cost:,.0f}, {found.alerts_per_day:,.1f} alerts a day"
        _mark(axes, found.threshold, found.cost, index=0, label=label)
        _finish(axes, title=title, subtitle=f"Cost of {found.action}", x="threshold", y="cost")
        axes.set_ylim(
            0, 1.2 * min(float(costs.max()), 2 * max(found.idle_cost, found.until_cost, found.cost, 1.0))
        )
        axes.legend(loc="best")

    return render(draw)


def draw_calibration(truth: NDArray[np.bool_], scores: NDArray[np.float64], *, title: str) -> bytes:
    """Observed against predicted share, in bins of scores; both axes grow like logarithms from 0.1 %.

    With rare positives nearly all bins lie close to zero, where linear axes would show one dot.
    """
    bins = calibration_bins(truth, scores)
    predicted = np.array([b.mean_score for b in bins])
    observed = np.array([b.positive_rate for b in bins])
    rows = np.array([b.rows for b in bins])
    margin = 1.96 * np.sqrt(observed * (1 - observed) / rows)

    def draw(axes: Axes) -> None:
        diagonal = np.linspace(0, 1, 200)
        axes.plot(
            diagonal, diagonal, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated"
        )
        low, high = np.clip(observed - margin, 0, 1), np.clip(observed + margin, 0, 1)
        axes.vlines(predicted, low, high, color=MODEL, linewidth=1.2, alpha=0.5)
        axes.plot(
            predicted,
            observed,
            color=MODEL,
            linewidth=1.5,
            marker="o",
            markersize=5,
            label="model, 95 % interval",
        )
        for scale in (axes.set_xscale, axes.set_yscale):
            scale("symlog", linthresh=1e-3, linscale=0.5)
        _finish(
            axes, title=title, subtitle="Calibration", x="predicted share of positives", y="observed share"
        )
        _share_ticks(axes)
        axes.legend(loc="upper left")

    return render(draw)


def _share_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([0, 0.001, 0.01, 0.1, 1]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FixedFormatter(["0", "0.1 %", "1 %", "10 %", "100 %"]))
    axes.set_xlim(-0.0001, 1.15)
    axes.set_ylim(-0.0001, 1.15)


def _thinned(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points that the eye can tell apart: a curve over a million rows has a million."""
    cells = np.stack([x, y]) * CURVE_CELLS
    moved = (np.diff(np.rint(cells), axis=1) != 0).any(axis=0)
    kept = np.concatenate([[True], moved[:-1], [True]])
    return x[kept], y[kept]


def _mark(axes: Axes, x: float, y: float, *, index: int, label: str) -> None:
    axes.plot(
        [x],
        [y],
        marker="o",
        markersize=8,
        linestyle="none",
        color=MARKS[index % len(MARKS)],
        markeredgecolor="white",
        markeredgewidth=1.5,
        zorder=5,
        clip_on=False,
        label=label,
    )


def _finish(axes: Axes, *, title: str, subtitle: str, x: str, y: str) -> None:
    titled(axes, title=title, subtitle=subtitle)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.tick_params(length=0)


def titled(axes: Axes, *, title: str, subtitle: str) -> None:
    """Write both above the axes."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=22)
    axes.text(0, 1.025, subtitle, transform=axes.transAxes, color=SOFT, fontsize=10)


def render(draw: Callable[[Axes], None]) -> bytes:
    """One figure, drawn without a display and without touching matplotlib's global state."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):  # type: ignore[arg-type] # its keys are typed as literals
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": "Penstock"})
    return buffer.getvalue()
