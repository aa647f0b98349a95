"""The training set, the four models, and the published table beside ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from penstock.app import plan_of, registry_of
from penstock.app.training import data_from_frames, policy_of, train_model
from penstock.core.clock import SystemClock

from .protocol import split
from .world import World, events_of, labels_of

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.definitions.project import Project
    from penstock.engine.training_set import FeatureFrame
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


PUBLISHED_TABLE = {
    "logistic_regression": Published("logistic regression", 0.871, 0.606, 0.291, 0.005),
    "decision_tree": Published("decision tree, depth 2", 0.763, 0.496, 0.241, 0.005),
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


def comparison(found: list[Figures], *, published: bool) -> Table:
    """The published table beside ours; without the published world only ours."""
    one = found[0]
    caption = (
        f"test week: {one.test_rows:,} payments, {one.test_frauds:,} frauds; trained on {one.train_rows:,} / "
        f"{one.train_frauds:,}. A perfect ranking reaches CP@100 {one.ceiling:.3f}."
    )
    table = Table(caption=caption, caption_justify="left", width=78)
    table.add_column("model")
    for name in ("AUC ROC", "average precision", "CP@100"):
        table.add_column(name, justify="right")
    for row in found:
        theirs = PUBLISHED_TABLE.get(row.name) if published else None
        ours = (row.roc_auc, row.average_precision, row.card_precision)
        cells = [f"{value:.3f}" for value in ours]
        if theirs is not None:
            wanted = (theirs.roc_auc, theirs.average_precision, theirs.card_precision)
            cells = [_beside(a, b, theirs.tolerance) for a, b in zip(ours, wanted, strict=True)]
        table.add_row(row.name if theirs is None else theirs.title, *cells)
    if published:
        table.title = "ours (published, allowed deviation)"
    return table


def _beside(ours: float, theirs: float, tolerance: float) -> str:
    inside = abs(ours - theirs) <= tolerance + 0.0005  # the published figures are rounded
    colour = "green" if inside else "red"
    return f"[{colour}]{ours:.3f}[/] [dim]({theirs:.3f} ± {tolerance:.3f})[/]"
