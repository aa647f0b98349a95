"""Shadow arms held against the arms that decided, on the same events."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from penstock.app import Runtime
from penstock.app.measuring import monitor_of
from penstock.app.runtime import shadow_path
from penstock.app.shadow_comparison import compare_shadows
from tests.unit.app.arms import START, Constant, events, write_project

DAY = timedelta(days=1)


class BySum(Constant):
    """Scores by the card's sum of the hour."""

    def score(self, vectors):
        return np.clip(vectors[:, 0] / self.value, 0.0, 1.0)


def sums(rows):
    """What each row's card has spent by then; all within an hour."""
    spent = defaultdict(float)
    found = []
    for row in rows:
        spent[row["card_id"]] += row["amount"]
        found.append(spent[row["card_id"]])
    return found


@pytest.fixture
def runtime(tmp_path):
    with Runtime.open(write_project(tmp_path)) as opened:
        opened.routes.serve("checkout", Constant("fraud:1", 0.6), arm="champion")
        opened.routes.serve("checkout", Constant("fraud:1", 0.6), arm="challenger")
        opened.routes.serve("checkout", BySum("fraud:2", 500.0), arm="watcher")
        yield opened


def send(runtime, count, *, labelled):
    rows = events(0, count)
    runtime.ingest("payments", rows)
    draw = random.Random(3)
    truth = {row["id"]: draw.random() < total / 600 for row, total in zip(rows, sums(rows), strict=True)}
    runtime.ingest(
        "frauds",
        [{"id": row["id"], "fraud": truth[row["id"]], "known_at": START + DAY} for row in rows[:labelled]],
    )
    runtime.shadows.flush()
    return rows, truth


def compared(runtime, **options):
    return compare_shadows(
        runtime.store,
        runtime.plan,
        monitor_of(runtime.project),
        registry=runtime.registry,
        shadows=shadow_path(runtime.project.root),
        **options,
    )


def test_figures_are_those_of_both_lists_of_scores(runtime):
    rows, truth = send(runtime, 600, labelled=400)
    (found,) = [one for one in compared(runtime) if one.arm == "watcher"]
    assert (found.version, found.events, found.labelled, found.pending) == ("fraud:2", 600, 400, 200)
    labels = np.array([truth[row["id"]] for row in rows[:400]])
    ours = np.clip(np.array(sums(rows)) / 500.0, 0, 1)
    assert found.positives == labels.sum()
    threshold = dict(runtime.plan.endpoints["checkout"].steps)["block"]
    assert found.differ == pytest.approx(np.mean((ours >= threshold) != (threshold <= 0.6)))
    precision = average_precision_score(labels, ours[:400]) - labels.mean()
    assert found.average_precision.value == pytest.approx(precision)
    assert found.average_precision.lower > 0
    assert found.roc_auc.value == pytest.approx(roc_auc_score(labels, ours[:400]) - 0.5)


def test_pending_labels_are_not_negatives(runtime):
    send(runtime, 300, labelled=0)
    (found,) = [one for one in compared(runtime) if one.arm == "watcher"]
    assert (found.labelled, found.pending) == (0, 300)
    assert found.average_precision is None
    assert found.differ is not None


def test_events_before_the_start_do_not_count(runtime):
    send(runtime, 200, labelled=100)
    assert [one.events for one in compared(runtime, start=runtime.engine.position)] in ([], [0, 0])


def test_without_a_file_of_shadow_scores_nothing_is_compared(runtime, tmp_path):
    send(runtime, 20, labelled=0)
    nothing = compare_shadows(
        runtime.store,
        runtime.plan,
        monitor_of(runtime.project),
        registry=runtime.registry,
        shadows=tmp_path / "none.db",
    )
    assert nothing == ()
