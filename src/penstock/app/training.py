"""Training a model of a project: features and labels gathered, fitted, judged, drawn, verified, registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.app.label_weights import label_weights_at
from penstock.app.origins import origin_of
from penstock.app.tables import read_table
from penstock.core.clock import Clock
from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import LabelRecords
from penstock.definitions.models import Model
from penstock.definitions.policies import Policy
from penstock.definitions.project import Project
from penstock.engine.feature_frame import FeatureFrame
from penstock.engine.frames import table_columns, to_table
from penstock.engine.history import LoggedFeatures
from penstock.engine.labels import label_values
from penstock.engine.ordered_log import labels_before
from penstock.engine.training_set import features_for_frame, positions_of_ids
from penstock.kernel.columns import Column, Columns, IntArray, Numeric
from penstock.kernel.hashing import encode_keys
from penstock.kernel.keys import KeyTable
from penstock.models.dataset import labels_at, training_data, training_spec
from penstock.models.evaluation import BinaryReport
from penstock.models.evaluation_anomaly import AnomalyReport
from penstock.models.plots import draw_costs, draw_evaluation
from penstock.models.plots_anomaly import draw_scores
from penstock.models.registry import ModelRegistry, ModelVersion
from penstock.models.training import TrainedModel, TrainingData, train
from penstock.plan.compile import source_node
from penstock.plan.nodes import Plan, ServiceNode
from penstock.plan.origins import Origin
from penstock.stores.labels import newest

if TYPE_CHECKING:
    from penstock.engine.ports import LogReader

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRun:
    """A registered version, what it was fitted and judged on, and its pictures by file name."""

    version: ModelVersion
    trained: TrainedModel
    pictures: Mapping[str, Path]


def model_named(project: Project, name: str) -> Model:
    """The model definition `name`; `NotFoundError` lists those that exist."""
    if name not in project.models:
        raise NotFoundError(
            f"Model {name!r}: the project defines {', '.join(project.models) or 'no model'}. Choose one of these."
        )
    return project.models[name]


def policy_of(project: Project, model: Model) -> Policy | None:
    """The policy of the endpoint that serves `model`, in whatever arm, by whose thresholds and costs it is judged."""
    endpoints = project.endpoints.values()
    return next((e.policy for e in endpoints if any(one.name == model.name for one in e.models)), None)


def data_from_log(
    store: LogReader,
    plan: Plan,
    model: Model,
    logged: LoggedFeatures,
    *,
    policy: Policy | None,
    stop: int | None = None,
) -> TrainingData:
    """Training data from the project's own log: features as computed, labels as known at log length `stop`."""
    service = plan.services[model.features.name]
    end = store.next_position if stop is None else stop
    labels, known = labels_at(logged.positions, newest(labels_before(store, logged.positions, end)))
    data = _data(
        service,
        plan.sources[service.source].time_field,
        events=logged.events,
        vectors=logged.features.values,
        labels=labels,
        known=known,
        policy=policy,
        weights=label_weights_at(store, plan, service.source, logged.positions),
    )
    return replace(data, positions=logged.positions, events=logged.events)


def data_from_frames(
    plan: Plan, model: Model, frame: FeatureFrame, labels: Any, *, policy: Policy | None
) -> TrainingData:
    """Training data from a frame of events with features and a frame of labels (id, label, time known)."""
    assert model.label is not None, "what is trained on frames has labels"
    source, label = model.label.of, source_node(model.label)
    events = table_columns(frame.to_arrow(), source.schema, owner="events")
    records = table_columns(to_table(labels, owner="labels"), model.label.schema, owner="labels")
    found = positions_of_ids(events[str(source.event_id_field)], records[str(source.event_id_field)])
    known = records[label.time_field].values.astype(np.int64)  # type: ignore[union-attr]
    newest = _newest(found, known)
    table = LabelRecords(
        event_positions=found[newest],
        label_positions=newest,
        values=label_values(records, label)[newest],
        known_at_us=known[newest],
    )
    values, known_at = labels_at(np.arange(events.length), table)
    service = plan.services[model.features.name]
    data = _data(
        service,
        source.time_field,
        events=events,
        vectors=frame.to_numpy(),
        labels=values,
        known=known_at,
        policy=policy,
    )
    return replace(data, events=events)


def data_from_files(project: Project, plan: Plan, model: Model, events: Path, labels: Path) -> TrainingData:
    """Training data from a file of events and a file of labels."""
    truth = read_table(labels, owner="labels")
    used = {plan.views[lookup.view].source for lookup in plan.services[model.features.name].lookups}
    assert model.label is not None, "what is trained on files has labels"
    history = {model.label.name: truth} if model.label.name in used else {}
    frame = features_for_frame(model.features.features, read_table(events, owner="events"), history=history)
    return data_from_frames(plan, model, frame, truth, policy=policy_of(project, model))


def train_model(
    project: Project,
    model: Model,
    data: TrainingData,
    *,
    registry: ModelRegistry,
    clock: Clock,
    reports: Path,
    actor: str,
    reason: str,
    tell: Tell | None = None,
    dataset: str | None = None,
    origin: Origin | None = None,
) -> TrainingRun:
    """Fit, judge, draw, export, verify and register a version of `model`.

    Pictures and the report are written to ``reports/NAME-VERSION``. `origin` is what its data were made from; default: what the
    definitions say (`penstock.app.origins`).
    """
    policy = policy_of(project, model)
    tell = tell or _say_nothing
    trained = train(training_spec(model, policy), data, progress=tell)
    tell(f"{model.name}: exporting and verifying")
    parent = next((v.label for v in registry.versions(model.name) if v.stage == "Production"), None)
    files = trained.export(
        created_us=clock.now_us(),
        parent=parent,
        dataset=dataset,
        origin=origin or origin_of(project, model),
    )
    version = registry.register(files, actor=actor, reason=reason)
    tell(f"{model.name}: drawing")
    pictures = draw(trained, version, reports / f"{model.name}-{version.version}")
    keep(pictures, version, registry)
    return TrainingRun(version, trained, pictures)


def _say_nothing(_line: str) -> None:
    """Progress that nobody watches."""


def draw(trained: TrainedModel, version: ModelVersion, folder: Path) -> dict[str, Path]:
    """Write the pictures of a version into `folder`; their paths by file name."""
    report = trained.report
    if isinstance(report, AnomalyReport):
        drawn = {"scores.png": draw_scores(trained.series(), report, title=version.label)}
    elif isinstance(report, BinaryReport):
        drawn = dict(
            draw_evaluation(trained.test_labels, trained.test_scores, report=report, title=version.label)
        )
    else:
        return {}
    for action, found in trained.chosen.items():
        drawn[f"cost_{action}.png"] = draw_costs(found, title=version.label)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, picture in drawn.items():
        paths[name] = folder / name
        paths[name].write_bytes(picture)
    return paths


def keep(pictures: Mapping[str, Path], version: ModelVersion, registry: ModelRegistry) -> None:
    """Keep the pictures of a version with it."""
    for title, path in pictures.items():
        registry.attach(version.name, version.version, title, path.read_bytes())


def _data(
    service: ServiceNode,
    time_field: str,
    *,
    events: Columns,
    vectors: np.ndarray[Any, np.dtype[np.float64]],
    labels: np.ndarray[Any, np.dtype[np.float64]],
    known: IntArray,
    policy: Policy | None,
    weights: np.ndarray[Any, np.dtype[np.float64]] | None = None,
) -> TrainingData:
    own = next((lookup for lookup in service.lookups if lookup.own), None)
    return training_data(
        service,
        vectors,
        times_us=events[time_field].values.astype(np.int64),  # type: ignore[union-attr]
        labels=labels,
        known_at_us=known,
        entities=None if own is None else _codes([events[name] for name in own.key_columns]),
        columns=_cost_columns(events, policy),
        weights=weights,
    )


def _codes(keys: list[Column]) -> IntArray:
    return KeyTable().assign(encode_keys(keys))


def _cost_columns(events: Columns, policy: Policy | None) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    if policy is None:
        return {}
    every = (policy.costs, *(one.costs for _, one in policy.chosen))
    names = dict.fromkeys(name for costs in every if costs is not None for name in costs.columns)
    return {name: cost_column(events, name, policy) for name in names}


def cost_column(events: Columns, name: str, policy: Policy) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A column of amounts that a policy's costs name; a null costs nothing."""
    if name not in events or not isinstance(column := events[name], Numeric):
        raise InputError(
            f"Policy {policy.name!r}: its costs name the column {name!r}, which is no number of the events. There are "
            f"{', '.join(events.columns)}."
        )
    values = column.values.astype(np.float64)
    return values if column.valid is None else np.where(column.valid, values, 0.0)


def _newest(found: IntArray, known: IntArray) -> IntArray:
    """For each labelled event the label that was known last, by event; later rows win at equal times."""
    order = np.lexsort((np.arange(len(found)), known, found))
    order = order[found[order] >= 0]
    events = found[order]
    last = np.ones(len(events), np.bool_)
    last[:-1] = events[1:] != events[:-1]
    return order[last]
