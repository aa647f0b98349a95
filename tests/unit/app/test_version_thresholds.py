"""Each decision is judged by the thresholds that its version brought along, live and from the store."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from penstock.app import Runtime
from penstock.app.measuring import monitor_of, stored_board
from penstock.app.metering import Meter
from penstock.app.runtime import registry_of
from penstock.app.version_thresholds import VersionThresholds
from penstock.engine.decisions import Decisions
from penstock.monitoring.board import ALL, Group
from tests.unit.app.arms import DEFINITIONS, START, events, promote, register, write_project

CHOSEN = DEFINITIONS.replace(
    'Policy("card", actions={"block": 0.9})',
    'Policy("card", actions={"block": CostOptimal(until=0.9, costs=CostMatrix(1.0, 10.0))}, costs=CostMatrix(1.0, 10.0))',
)


@pytest.fixture
def runtime(tmp_path):
    root = write_project(tmp_path, CHOSEN)
    promote(root, register(root, chosen={"block": 0.9}))
    promote(root, register(root, shift=30.0, chosen={"block": 0.3}), stage="Staging")
    with Runtime.open(root) as opened:
        yield opened


def send(runtime, count=600):
    rows = events(0, count)
    batches = [("payments", rows[at : at + 100]) for at in range(0, count, 100)]
    labels = [
        {"id": row["id"], "fraud": i % 3 == 0, "known_at": START + timedelta(days=1)}
        for i, row in enumerate(rows)
    ]
    for source, batch in [*batches, ("frauds", labels)]:
        runtime.ingest(source, batch)


def test_points_of_a_board_are_those_of_what_was_done(runtime):
    endpoint, monitor = runtime.plan.endpoints["checkout"], monitor_of(runtime.project)
    send(runtime)
    thresholds = VersionThresholds(endpoint, runtime.registry)
    board = stored_board(runtime.store, runtime.plan, monitor, thresholds=thresholds)
    live = Meter(runtime, "checkout").board
    taken, by = [], []
    for batch in runtime.store.read_decisions():
        decisions = Decisions.from_bytes(batch.payload)
        taken += (decisions.taken > 0).tolist()
        by += decisions.versions()
    assert set(by) == {"fraud:1", "fraud:2"}
    for version, threshold in (("fraud:1", 0.9), ("fraud:2", 0.3)):
        (point,) = board.total(Group("version", version)).summary().points
        assert (point.threshold, point.highest) == (threshold, None)
        own = [acted for acted, one in zip(taken, by, strict=True) if one == version]
        assert point.true_positives + point.false_positives == sum(own) > 0
    (point,) = board.total(ALL).summary().points
    assert (point.threshold, point.highest) == (0.3, 0.9)
    assert point.true_positives + point.false_positives == sum(taken)
    assert point.cost == pytest.approx(point.false_positives + 10 * (200 - point.true_positives))
    assert live.total(ALL).summary() == board.total(ALL).summary()


def test_a_version_that_is_not_registered_has_the_policys_own(runtime):
    thresholds = VersionThresholds(runtime.plan.endpoints["checkout"], registry_of(runtime.project.root))
    assert thresholds.of("fraud:9") == thresholds.of("") == (0.9,)
    assert thresholds.of("fraud:2+1200") == (0.3,)


def test_without_thresholds_that_versions_bring_all_are_judged_alike(tmp_path):
    root = write_project(tmp_path)
    with Runtime.open(root) as opened:
        thresholds = VersionThresholds(opened.plan.endpoints["checkout"], opened.registry)
        opened.ingest("payments", events(0, 5))
        (batch,) = opened.store.read_decisions()
        assert thresholds.by_row(Decisions.from_bytes(batch.payload)) is None
    assert np.isfinite(thresholds.in_force).all()
