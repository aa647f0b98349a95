"""The training set, the four models, and the published table beside ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from penstock.app import plan_of, registry_of
from penstock.app.training import data_from_frames, policy_of, train_model
from penstock.core.clock import SystemClock
from penstock.monitoring.report import Grid

from .protocol import split
from .world import World, events_of, labels_of

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.definitions.project import Project
    from penstock.engine.feature_frame import FeatureFrame
    from penstock.models.registry import ModelVersion

Tell = Callable[[str], None]
ACTOR = "examples.fraud"


@dataclass(frozen=True, slots=True)
class Published:
    """A row of the published table: ROC AUC, average precision, Card Precision@100, and how far ours may be off."""

    title: str
    roc_auc: float
    average_precision: float
    card_precision: float
    tolerance: float

    @property
    def values(self) -> tuple[float, float, float]:
        """The three figures."""
        return self.roc_auc, self.average_precision, self.card_precision


PUBLISHED_TABLE = {
    "logistic_regression": Published("logistic regression", 0.871, 0.606, 0.291, 0.005),
    "decision_tree": Published("decision tree", 0.763, 0.496, 0.241, 0.005),
    "random_forest": Published("random forest", 0.867, 0.658, 0.287, 0.01),
    "xgboost": Published("XGBoost", 0.862, 0.639, 0.273, 0.005),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What a registered version reached in the test week."""

    name: str
    version: str
    roc_auc: float
    average_precision: float
    card_precision: float
    ceiling: float
    train_rows: int
    train_frauds: int
    test_rows: int
    test_frauds: int


def training_set(world: World, project: Project) -> tuple[pa.Table, FeatureFrame]:
    """The three weeks of the protocol with their truth, and their features, point-in-time correct."""
    protocol = world.protocol
    service = project.services["fraud_features"]
    rows = world.between(protocol.train_start, world.live_start)
    past = world.with_history(protocol.train_start, world.live_start)
    history = {"transactions": events_of(past), "chargebacks": labels_of(past)}
    return rows, service.get_features_for_events(events_of(rows), history=history)


def train_all(world: World, project: Project, tell: Tell) -> list[Figures]:
    """Train, register and, for the endpoint's model, promote what is not registered yet."""
    registry = registry_of(world.folder)
    missing = [name for name in project.models if not registry.versions(name)]
    if missing:
        started = perf_counter()
        rows, frame = training_set(world, project)
        took = perf_counter() - started
        tell(
            f"{len(frame):,} rows x {len(frame.feature_names)} features, point-in-time correct, in {took:.1f} s"
        )
        plan = plan_of(project)
        eligible = split(rows, world.protocol).test
        for name in missing:
            model = project.models[name]
            policy = policy_of(project, model)
            data = data_from_frames(plan, model, frame, labels_of(rows), policy=policy)
            started = perf_counter()
            train_model(
                project,
                model,
                replace(data, eligible=eligible),
                registry=registry,
                clock=SystemClock(),
                reports=world.reports,
                actor=ACTOR,
                reason="the published protocol",
            )
            tell(f"{name}: trained, exported, verified and registered in {perf_counter() - started:.1f} s")
    for endpoint in project.endpoints.values():
        newest = registry.versions(endpoint.model.name)[-1]
        if not any(v.stage == "Production" for v in registry.versions(endpoint.model.name)):
            registry.promote(newest.name, newest.version, actor=ACTOR, reason="the endpoint's model")
    return [figures_of(registry.versions(name)[-1]) for name in project.models]


def figures_of(version: ModelVersion) -> Figures:
    """The figures that the version's manifest keeps."""
    manifest = version.manifest()
    metrics = manifest.metrics
    cards = metrics["card_precision"] or {"value": np.nan, "ceiling": np.nan}
    return Figures(
        version.name,
        version.label,
        metrics["roc_auc"],
        metrics["average_precision"],
        cards["value"],
        cards["ceiling"],
        manifest.data.rows,
        manifest.data.positives or 0,
        metrics["rows"],
        metrics["positives"],
    )


def comparison(found: list[Figures], *, published: bool) -> Grid:
    """The published table beside ours; away from the published world only ours."""
    if not published:
        rows = [(row.name, *(f"{value:.3f}" for value in _values(row))) for row in found]
        return Grid(("model", "AUC ROC", "average precision", "CP@100"), tuple(rows))
    return Grid(
        ("ours (published)", "AUC ROC", "average precision", "CP@100", "±", "agrees"),
        tuple(_beside(row, PUBLISHED_TABLE[row.name]) for row in found),
    )


def agrees(row: Figures) -> bool:
    """Whether a model's figures are the published ones, within what seeds and rounding allow."""
    theirs = PUBLISHED_TABLE[row.name]
    within = theirs.tolerance + 0.0005  # the published figures are rounded
    return all(abs(a - b) <= within for a, b in zip(_values(row), theirs.values, strict=True))


def protocol_text(found: list[Figures]) -> str:
    """What was trained and tested on."""
    one = found[0]
    return (
        f"Trained on {one.train_rows:,} payments with {one.train_frauds:,} frauds; a week later tested on "
        f"{one.test_rows:,} with {one.test_frauds:,}. Cards known to be stolen are left out. A perfect ranking reaches a "
        f"Card Precision@100 of {one.ceiling:.3f}."
    )


def _values(row: Figures) -> tuple[float, float, float]:
    return row.roc_auc, row.average_precision, row.card_precision


def _beside(row: Figures, theirs: Published) -> tuple[str, ...]:
    pairs = zip(_values(row), theirs.values, strict=True)
    cells = (f"{a:.3f} ({b:.3f})" for a, b in pairs)
    return (theirs.title, *cells, f"{theirs.tolerance:.3f}", "yes" if agrees(row) else "NO")
