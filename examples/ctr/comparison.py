"""How the models compare on the last day: figures side by side, and a picture of who ranks, and who tells chances, how well."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from examples.project_run import figures
from penstock.models.evaluation import BinaryReport, evaluate_binary
from penstock.models.plots import GRID, MARKS, MODEL, SOFT, render, titled

from .world import simulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MODELS = ("logistic", "boosted", "online")
WORLD = "the world itself"
COLOURS = dict(zip((*MODELS, WORLD), (MARKS[0], MODEL, MARKS[2], SOFT), strict=True))
TEST = timedelta(days=1)


def compared(folder: Path, count: int) -> dict[str, Mapping[str, Any]]:
    """By name the figures of the last day: of each model's newest version, and of the chances that the clicks were drawn with.

    Each model was judged on the same impressions. Those that were trained in batches know the days before; the one that learns online was
    asked about each impression before its click was known.
    """
    world = world_of_last_day(count)
    return {**{model: figures(folder, model) for model in MODELS}, WORLD: world.to_dict()}


def world_of_last_day(count: int) -> BinaryReport:
    """What nobody can do better than: the true chances as scores."""
    world = simulate(count)
    test = world["seconds"] > world["seconds"].max() - TEST.total_seconds()
    return evaluate_binary(world["clicked"][test], world["chance"][test])


def picture(found: Mapping[str, Mapping[str, Any]]) -> bytes:
    """How often the impressions that each ranks highest were clicked, and how often it had said that they would be, as PNG."""

    def draw(axes: Axes) -> None:
        axes.axhline(found[WORLD]["base_rate"], color=GRID, linewidth=2, label="all impressions")
        for name, report in found.items():
            _draw_one(axes, name, report)
        titled(axes, title="Clicks on the last day", subtitle="solid: as they were; dotted: as foretold")
        axes.set(xscale="log", xlabel="impressions ranked highest", ylabel="clicked", ylim=(0, None))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.legend(loc="upper right")

    return render(draw)


def _draw_one(axes: Axes, name: str, report: Mapping[str, Any]) -> None:
    share, clicked, foretold = ranked(report)
    label = f"{name}, average precision {report['average_precision']:.3f}"
    axes.plot(share, clicked, color=COLOURS[name], linewidth=2, label=label)
    axes.plot(share, foretold, color=COLOURS[name], linewidth=1, linestyle=":")


def ranked(report: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """From the highest scores down: the share of all rows so far, how many of them were clicked, and how many by their scores."""
    bins = report["calibration"][::-1]
    rows, rates, scores = (
        np.array([one[key] for one in bins]) for key in ("rows", "positive_rate", "mean_score")
    )
    so_far = np.cumsum(rows)
    return so_far / so_far[-1], np.cumsum(rows * rates) / so_far, np.cumsum(rows * scores) / so_far
