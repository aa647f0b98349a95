"""Judging a version of a project's model before it may decide, and keeping what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penstock.app.gate_learners import learner_at_gate
from penstock.app.runtime import learned_path, open_reader, plan_of
from penstock.app.training import data_from_files, data_from_log, model_named, policy_of
from penstock.core.clock import Clock
from penstock.core.errors import InputError
from penstock.core.time import format_duration, from_us, to_us
from penstock.definitions.models import Model
from penstock.definitions.policies import Policy
from penstock.definitions.project import Project
from penstock.engine.history import features_from_log
from penstock.engine.recovery import Progress, no_progress
from penstock.models.bootstrap import Difference
from penstock.models.gates import Candidate, GateReport, Holdout, judge
from penstock.models.loading import Kept, load_model
from penstock.models.manifest import Manifest
from penstock.models.training import TrainingData, data_digest
from penstock.models.training_rows import read_sketch
from penstock.models.versions import report_title
from penstock.monitoring.report import Grid, Report, Section, Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.kernel.columns import Column, IntArray
    from penstock.models.published import OnlineModel
    from penstock.models.registry import ModelRegistry, ModelVersion

    Learners = dict[str, tuple[OnlineModel | None, NDArray[np.float64]]]

Tell = Callable[[str], None]
MIDDLE = 0.5
"""The threshold of a binary model that no policy uses."""


@dataclass(frozen=True, slots=True)
class Given:
    """Files to judge on instead of the project's log."""

    events: Path
    labels: Path


def judge_version(
    project: Project,
    name: str,
    version: int | str,
    *,
    registry: ModelRegistry,
    clock: Clock,
    given: Given | None = None,
    gathered: TrainingData | None = None,
    since_us: int | None = None,
    tell: Tell | None = None,
    progress: Progress = no_progress,
) -> GateReport:
    """Hold a version against the champion, on all labelled events later than either's training; the report is kept with it.

    Parameters
    ----------
    given
        Events and labels to judge on; default: the project's log, with features as served.
    gathered
        The same, where they are gathered already.
    since_us
        Only events from this time on; None: all that are late enough.

    Raises
    ------
    NotFoundError
        The project does not define the model, or the version does not exist.
    InputError
        No labelled event is late enough.
    """
    model = model_named(project, name)
    challenger = registry.get(name, version)
    champion = next((v for v in registry.versions(name) if v.stage == "Production"), None)
    if champion is not None and champion.version == challenger.version:
        champion = None
    say = tell or _say_nothing
    say(f"{challenger.label}: gathering the holdout")
    data = _data(project, model, given, progress) if gathered is None else gathered
    known = [one for one in (challenger, champion) if one is not None]
    rows = _later(model, data, [one.manifest() for one in known], since_us=since_us or 0)
    learners = _learners(project, model, known, data)
    rows = _unseen(rows, learners)
    holdout = _holdout(project, model, data, rows)
    say(f"{challenger.label}: judging on {len(holdout.labels):,} rows")
    candidates = [_candidate(project, model, one, learners, rows) for one in known]
    report = judge(
        model.gate,
        candidates[0],
        candidates[1] if len(candidates) > 1 else None,
        holdout,
        created_us=clock.now_us(),
    )
    registry.attach(name, challenger.version, report_title(report.digest), report.to_bytes())
    return report


def _data(project: Project, model: Model, given: Given | None, progress: Progress) -> TrainingData:
    plan = plan_of(project)
    if given is not None:
        return data_from_files(project, plan, model, given.events, given.labels)
    with open_reader(project.root) as store:
        service, stop = plan.services[model.features.name], store.next_position
        logged = features_from_log(store, plan, service, stop=stop, progress=progress)
        return data_from_log(store, plan, model, logged, policy=policy_of(project, model), stop=stop)


def _later(model: Model, data: TrainingData, manifests: list[Manifest], *, since_us: int) -> IntArray:
    """The labelled rows from the end of the gap after the later training on."""
    gap_us = to_us(model.split.delay)
    start_us = max(since_us, gap_us + max(manifest.data.end_us for manifest in manifests))
    late = data.times_us >= start_us
    rows = np.flatnonzero(late & ~np.isnan(data.labels))
    if model.task == "anomaly" and not len(rows):
        rows = np.flatnonzero(late)
    if not len(rows):
        labelled = data.times_us[~np.isnan(data.labels)]
        newest = f"{from_us(int(labelled.max())):%Y-%m-%d %H:%M}" if len(labelled) else "nowhere"
        raise InputError(
            f"gate: model {model.name!r} was trained on events up to "
            f"{from_us(start_us - gap_us):%Y-%m-%d %H:%M}, and labels take {format_duration(gap_us)}; the newest event with "
            f"a label is of {newest}. Wait for labels, give later ones with --events and --labels, or promote with "
            "--skip-gate REASON."
        )
    return rows


def _learners(project: Project, model: Model, known: list[ModelVersion], data: TrainingData) -> Learners:
    """What those of the versions that go on learning are judged by."""
    learning = [one for one in known if one.manifest().engine == "online"]
    if not learning:
        return {}
    plan = plan_of(project)
    states = learned_path(project.root)
    with open_reader(project.root) as store:
        return {one.label: learner_at_gate(store, plan, model, one, data, states=states) for one in learning}


def _unseen(rows: IntArray, learners: Learners) -> IntArray:
    """The rows whose labels no learner knew when it scored them; all, to be refused by the gate, where there are none."""
    unseen = [np.isfinite(scores[rows]) for _, scores in learners.values()]
    kept = rows[np.logical_and.reduce(unseen)] if unseen else rows
    return kept if len(kept) else rows


def _holdout(project: Project, model: Model, data: TrainingData, rows: IntArray) -> Holdout:
    return Holdout(
        vectors=np.ascontiguousarray(data.vectors[rows]),
        labels=data.labels[rows],
        times_us=data.times_us[rows],
        features=data.features,
        service_fingerprint=data.service_fingerprint,
        gap_us=to_us(model.split.delay),
        digest=data_digest(data, rows),
        columns=_segment_columns(project, model, data, rows),
    )


def _segment_columns(
    project: Project, model: Model, data: TrainingData, rows: IntArray
) -> dict[str, tuple[Column, str]]:
    """The columns of the events that the gate's segments name."""
    events = data.events
    if events is None or model.gate.segments is None:
        return {}
    plan = plan_of(project)
    fields = plan.sources[plan.services[model.features.name].source].fields
    types = {field.name: field.dtype.name for field in fields}
    named = [name for name in model.gate.segments if name in types and name in events]
    return {name: (events[name].take(rows), types[name]) for name in named}


def _candidate(
    project: Project, model: Model, version: ModelVersion, learners: Learners, rows: IntArray
) -> Candidate:
    files = version.files()
    copy, scores = learners.get(version.label, (None, None))
    return Candidate(
        label=version.label,
        digest=version.digest,
        manifest=files.manifest,
        model=copy
        or load_model(
            version.folder,
            digest=version.digest,
            version=version.label,
            states=Kept(learned_path(project.root)),
        ),
        threshold=served_threshold(project, model, files.manifest),
        trained_rows=read_sketch(files["rows"]) if "rows" in files.contents else None,
        unseen_scores=None if scores is None else scores[rows],
    )


def served_threshold(project: Project, model: Model, manifest: Manifest) -> float | None:
    """The score from which on the model raises an alarm where it serves; None for a regression.

    By the policy of its endpoint; where there is none, by the one that it was trained with.
    """
    if model.task == "regression":
        return None
    policy = policy_of(project, model)
    thresholds = manifest.thresholds if policy is None else dict(policy.actions) | _chosen(policy, manifest)
    action = model.gate.action
    if action is None:
        return min(thresholds.values(), default=MIDDLE)
    if action not in thresholds:
        raise InputError(
            f"Model {model.name!r}: its gate is about the action {action!r}; the policy has "
            f"{', '.join(thresholds) or 'none'}. Name one of these."
        )
    return thresholds[action]


def _chosen(policy: Policy, manifest: Manifest) -> dict[str, float]:
    """The thresholds that the version brings along."""
    found = manifest.chosen_thresholds
    return {action: found[action] for action, _ in policy.chosen if action in found}


def report_page(report: GateReport) -> Report:
    """The report for people: for `penstock.monitoring.report.render_html`."""
    holdout = report.holdout
    positives = holdout["positives"]
    tiles = (
        Tile("verdict", report.verdict),
        Tile("challenger", report.challenger, _at_threshold(report, report.challenger)),
        Tile("champion", report.champion or "none", _at_threshold(report, report.champion)),
        Tile("rows", f"{holdout['rows']:,}", "" if positives is None else f"{positives:,} positives"),
    )
    found = tuple((rule.name, rule.verdict, rule.text) for rule in report.rules)
    settings = tuple((name, str(value)) for name, value in report.gate.items())
    period = (
        f"{from_us(holdout['start_us']):%Y-%m-%d %H:%M} to {from_us(holdout['end_us']):%Y-%m-%d %H:%M} UTC"
    )
    return Report(
        title=f"Gate: {report.challenger}",
        subtitle=f"judged at {from_us(report.created_us):%Y-%m-%d %H:%M} UTC on events of {period}",
        tiles=tiles,
        sections=(
            Section(title="Rules", grid=Grid(("rule", "verdict", "found"), found)),
            *_segment_section(report),
            Section(title="The gate", grid=Grid(("setting", "value"), settings)),
        ),
    )


SEGMENT_HEAD = ("segment", "verdict", "rows", "difference", "p")


def segment_rows(report: GateReport) -> list[tuple[str, str, str, str, str]]:
    """What was found in each segment, by `SEGMENT_HEAD`; those that were not tested alone come last."""
    numbers = next((rule.numbers for rule in report.rules if rule.name == "segments"), {})
    found = [
        (name, one["verdict"], f"{one['rows']:,}", _interval(one), f"{one['adjusted_p']:.2g}")
        for name, one in numbers.get("segments", {}).items()
        if "verdict" in one
    ]
    return found + [(name, "small", f"{rows:,}", "", "") for name, rows in numbers.get("small", {}).items()]


def _interval(one: Mapping[str, float]) -> str:
    return str(Difference(one["value"], one["lower"], one["upper"]))


def _segment_section(report: GateReport) -> Iterator[Section]:
    found = segment_rows(report)
    if found:
        text = (
            "Challenger minus champion, rows that count (positives, or all of a regression), and the p-value after Holm: below "
            f"{(1 - report.gate['confidence']) / 2:g} it is worse. Small segments are tested together."
        )
        yield Section(title="Segments", text=text, grid=Grid(SEGMENT_HEAD, tuple(found)))


def _at_threshold(report: GateReport, label: str | None) -> str:
    threshold = None if label is None else report.thresholds.get(label)
    return "" if threshold is None else f"alarm from {threshold:g}"


def _say_nothing(_line: str) -> None:
    """Progress that nobody watches."""
