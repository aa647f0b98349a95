"""The first version of a model that goes on learning: what the log holds, learned from its start, and judged on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from penstock.app.arrivals import Arrivals
from penstock.app.learning import definition_of, new_fold, versions_in_use
from penstock.app.origins import origin_in_log
from penstock.app.training import TrainingRun, data_from_log, draw, keep, policy_of
from penstock.core.errors import ModelError
from penstock.engine.history import features_from_log
from penstock.models.artifacts import FILE_NAMES
from penstock.models.budgets import thresholds_by_budget
from penstock.models.dataset import training_spec
from penstock.models.learners import description
from penstock.models.learning_model import (
    COPY_NAME,
    STATE_NAME,
    Description,
    digest_of,
    states_of,
    write_sealed,
)
from penstock.models.manifest import FileEntry, Manifest, ModelFiles, Role, sha256
from penstock.models.prequential_scores import Stretch, prequential_scores
from penstock.models.published import encode
from penstock.models.split import split_by_time
from penstock.models.training import TrainedModel, data_range, evaluate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.core.clock import Clock
    from penstock.definitions.models import Model
    from penstock.definitions.project import Project
    from penstock.engine.history import LoggedFeatures
    from penstock.engine.recovery import Progress
    from penstock.models.fold import Fold
    from penstock.models.published import Published
    from penstock.models.registry import ModelRegistry
    from penstock.models.split import Split
    from penstock.models.training import TrainingData, TrainingSpec
    from penstock.plan.nodes import Plan
    from penstock.plan.origins import Origin
    from penstock.stores.reader import ProjectReader

STRETCH_ROWS = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A fold of the log up to a length, the scores of its test period, and what they were compared with."""

    fold: Fold
    copy: Published
    trained: TrainedModel
    budgets: Mapping[str, dict[str, Any]]
    """By action, the thresholds that keep a budget of alerts, and what they rest on."""
    origin: Origin


def learn_from_log(
    plan: Plan, project: Project, model: Model, store: ProjectReader, *, progress: Progress
) -> Learned:
    """Fold all labels in the log. Each event of the test period is scored by the copy that was published before it came."""
    stop = store.next_position
    service = plan.services[model.features.name]
    logged = features_from_log(store, plan, service, stop=stop, progress=progress)
    policy = policy_of(project, model)
    data = data_from_log(store, plan, model, logged, policy=policy, stop=stop)
    spec = training_spec(model, policy)
    labelled = data.times_us[_counting(model, data)]
    if not len(labelled):
        raise ModelError(
            f"Model {model.name!r}: the log holds {_nothing_of(model)}; there is nothing to learn. Feed some first: penstock run."
        )
    split = split_by_time(data.times_us, spec.split, end_us=int(labelled.max()) + 1)
    budgets = thresholds_by_budget(policy, data.times_us[split.train])
    spec = replace(
        spec, thresholds={**spec.thresholds, **{a: one["threshold"] for a, one in budgets.items()}}
    )
    fold = new_fold(model, plan)
    scores = np.full(len(data.labels), np.nan)
    scores[split.test] = prequential_scores(
        fold, stretches(Arrivals(store, plan, model), logged, split, stop=stop), features=len(data.features)
    )
    copy = msgspec.structs.replace(
        fold.copy(),
        definition=definition_of(model, plan),
        log=store.store_id,
        erasures=len(store.erasures()),
    )
    origin = origin_in_log(project, model, log=store.store_id, position=stop)
    return Learned(fold, copy, _judged(spec, data, split, scores), budgets, origin)


def _counting(model: Model, data: TrainingData) -> NDArray[np.bool_]:
    """The rows that it learns, or is judged by: those with a label, or, of a detector, all."""
    return np.ones(len(data.labels), np.bool_) if model.task == "anomaly" else ~np.isnan(data.labels)


def _nothing_of(model: Model) -> str:
    if model.label is None or model.task == "anomaly":
        return "no events"
    return f"no labels of {model.label.name!r} that have met their events"


def stretches(
    arrivals: Arrivals, logged: LoggedFeatures, split: Split, *, stop: int, rows: int = STRETCH_ROWS
) -> Iterator[Stretch]:
    """The events of a log and what they, or the labels between them, teach, so many events at a time."""
    begun = 0
    for first in range(0, len(logged.positions), rows):
        part = slice(first, first + rows)
        positions = logged.positions[part]
        end = stop if first + rows >= len(logged.positions) else int(positions[-1]) + 1
        yield Stretch(
            positions,
            np.ascontiguousarray(logged.features.values[part]),
            split.test[part],
            arrivals.between(begun, end),
        )
        begun = end


def register_learning(
    plan: Plan,
    model: Model,
    learned: Learned,
    *,
    registry: ModelRegistry,
    clock: Clock,
    states: Path,
    reports: Path,
    actor: str,
    reason: str,
    erasures: int,
) -> TrainingRun:
    """Register a version that goes on from what was learned, and keep its state and copy below `states`."""
    service = plan.services[model.features.name]
    definition = learned.copy.definition
    described = Description(
        definition,
        learned.copy.labels,
        learned.copy.position,
        digest_of(learned.copy),
        learned.copy.log,
    )
    contents: dict[Role, bytes] = {
        "online": msgspec.json.encode(described),
        "profile": learned.trained.profile().to_bytes(),
    }
    parent = next((v.label for v in registry.versions(model.name) if v.stage == "Production"), None)
    manifest = Manifest(
        name=model.name,
        task=model.task,  # type: ignore[arg-type]
        engine="online",
        link="identity",
        features=learned.trained.features,
        service_fingerprint=service.fingerprint,
        data=learned.trained.data,
        parameters={"estimator": description(model.estimator), "learning": repr(model.learning)},
        metrics=learned.trained.report.to_dict(),
        thresholds=dict(learned.trained.spec.thresholds),
        chosen=dict(learned.budgets),
        libraries=versions_in_use(),
        files=tuple(
            FileEntry(FILE_NAMES[role], role, len(data), sha256(data)) for role, data in contents.items()
        ),
        created_us=clock.now_us(),
        parent=parent,
        origin=learned.origin,
    )
    files = ModelFiles(manifest, sha256(manifest.to_bytes()), contents)
    version = registry.register(files, actor=actor, reason=reason)
    states = states_of(states, version.label)
    state = learned.fold.state(
        definition=definition, libraries=versions_in_use(), erasures=erasures, log=learned.copy.log
    )
    write_sealed(states / STATE_NAME, state)
    write_sealed(states / COPY_NAME, encode(learned.copy))
    pictures = draw(learned.trained, version, reports / f"{model.name}-{version.version}")
    keep(pictures, version, registry)
    return TrainingRun(version, learned.trained, pictures)


def _judged(spec: TrainingSpec, data: TrainingData, split: Split, scores: Any) -> TrainedModel:
    eligible = np.True_ if data.eligible is None else data.eligible
    counting = np.True_ if spec.task == "anomaly" else ~np.isnan(data.labels)
    rows = np.flatnonzero(split.test & counting & ~np.isnan(scores) & eligible)
    if not len(rows):
        raise ModelError(
            f"Model {spec.name!r}: no labelled event is left to be judged by ({split}). Wait for labels, or choose an earlier "
            "test period."
        )
    known = np.flatnonzero(np.broadcast_to(counting, split.test.shape))
    before = np.flatnonzero(split.train & counting & eligible)
    return TrainedModel(
        spec=spec,
        estimator=None,
        split=split,
        report=evaluate(spec, data, rows, scores[rows]),
        test_rows=rows,
        test_labels=data.labels[rows],
        test_scores=scores[rows],
        train_vectors=data.vectors[before],
        train_times_us=data.times_us[before],
        features=data.features,
        service_fingerprint=data.service_fingerprint,
        data=data_range(spec, data, split, known),
        test_times_us=data.times_us[rows],
        test_entities=None if data.entities is None else data.entities[rows],
    )
