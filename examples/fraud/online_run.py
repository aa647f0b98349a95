"""`python -m examples.fraud --online`: models that learn each label when it arrives, judged in four weeks, test before learn."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from penstock.app import plan_of
from penstock.app.learning import new_fold
from penstock.core.time import DAY_US
from penstock.definitions.project import Project
from penstock.models.evaluation import RankedEntities, evaluate_binary
from penstock.models.prequential_scores import prequential_scores, stretches_by_time
from penstock.monitoring.report import Grid
from penstock.monitoring.terminal import render_grid

from .enrichment import Enrichment
from .protocol import day_number, split, utc_days
from .simulator import PUBLISHED
from .world import LABEL_DELAY, World, events_of, labels_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from penstock.definitions.models import Model

WEEKS = 4
WEEK = timedelta(days=7)
FIRST_DAY = date(2018, 4, 1)


class Score(NamedTuple):
    """What a model reached, as a mean of weeks."""

    roc_auc: float
    average_precision: float
    card_precision: float


class Judged(NamedTuple):
    """What a model reached, over how many labels it learned, and how many labels and scores a second."""

    score: Score
    labels: int
    rows_per_s: float


RIVER = Score(0.865, 0.609, 0.292)
"""River's StandardScaler and LogisticRegression with Adam(1e-3), row by row in the same order."""


def run_online(console: Console, world: World) -> int:
    """Learn from the first day on, and print the table; the process's exit code."""
    from .online_definitions import logistic_online, trees_online

    started = perf_counter()
    rows = []
    if world.config == PUBLISHED:
        rows.append(("River, row by row", "15", *(f"{value:.3f}" for value in RIVER), ""))
    for model in (logistic_online, trees_online):
        table = learning_rows(world)
        console.print(f"{model.name}: features of {table.num_rows:,} payments", highlight=False)
        vectors = features_of(model, world, table)
        judged = judge(model, world, table, vectors)
        figures = (f"{value:.3f}" for value in judged.score)
        rows.append((model.name, str(vectors.shape[1]), *figures, f"{judged.rows_per_s:,.0f}"))
    head = ("mean of four weeks", "features", "AUC ROC", "average precision", "CP@100", "labels and scores/s")
    console.print(render_grid(Grid(head, tuple(rows))))
    console.print(
        f"Each payment was scored by the copy published before it came; labels follow by 7 days. Done in "
        f"{perf_counter() - started:.0f} s. Next: less examples/fraud/online_definitions.py",
        highlight=False,
    )
    return 0


def learning_rows(world: World, weeks: int = WEEKS) -> pa.Table:
    """All payments up to the end of the last test week."""
    return world.between(FIRST_DAY, world.protocol.test_start + weeks * WEEK)


def features_of(model: Model, world: World, table: pa.Table) -> NDArray[np.float64]:
    """The model's features of payments that are their own history, point-in-time correct."""
    assert model.label is not None
    events, history = events_of(table), {model.label.name: labels_of(table)}
    if model.label.of.name != "transactions":  # the enriched ones
        extra = Enrichment(world.config)
        events, history["customers"] = extra.located(events), extra.profiles()
    history[model.label.of.name] = events
    vectors: NDArray[np.float64] = model.features.get_features_for_events(events, history=history).to_numpy()
    return vectors


def judge(
    model: Model, world: World, table: pa.Table, vectors: NDArray[np.float64], weeks: int = WEEKS
) -> Judged:
    """Fold the labels as they come; each test week by the published protocol, then their mean."""
    project = Project(world.folder, "online", {}, services={model.features.name: model.features})
    fold = new_fold(model, plan_of(replace(project, models={model.name: model})))
    times = table["timestamp"].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    truth = table["is_fraud"].to_numpy(zero_copy_only=False)
    scored = utc_days(table) >= day_number(world.protocol.test_start)
    delay_us = LABEL_DELAY // timedelta(microseconds=1)
    stretches = stretches_by_time(
        vectors, times, labels=truth.astype(float), known_at_us=times + delay_us, scored=scored
    )
    started = perf_counter()
    scores = np.zeros(len(times))
    scores[scored] = prequential_scores(fold, stretches, features=vectors.shape[1])
    took = perf_counter() - started
    rate = (fold.counts.labels + int(scored.sum())) / took
    return Judged(mean_of_weeks(world, table, scores, weeks), fold.counts.labels, rate)


def mean_of_weeks(world: World, table: pa.Table, scores: NDArray[np.float64], weeks: int = WEEKS) -> Score:
    """What scores of all payments reach, week by week."""
    truth = table["is_fraud"].to_numpy(zero_copy_only=False)
    tests = [_week(world, table, scores, truth, week) for week in range(weeks)]
    return Score(*np.mean(tests, axis=0).tolist())


def _week(
    world: World, table: pa.Table, scores: NDArray[np.float64], truth: NDArray[np.bool_], week: int
) -> Score:
    protocol = replace(world.protocol, train_start=world.protocol.train_start + week * WEEK)
    rows = np.flatnonzero(split(table, protocol).test)
    days = table["timestamp"].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()[rows] // DAY_US
    ranked = RankedEntities(days, table["customer_id"].to_numpy()[rows])
    report = evaluate_binary(truth[rows].astype(float), np.clip(scores[rows], 0, 1), ranked=ranked)
    assert report.roc_auc is not None
    assert report.average_precision is not None
    assert report.card_precision is not None
    return Score(report.roc_auc, report.average_precision, report.card_precision.value)
