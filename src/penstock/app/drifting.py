"""Drift of an endpoint: what it was asked lately, against what its model was trained on. Reads the store only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from penstock.app.measuring import scored_batches
from penstock.core.errors import MissingDependencyError, ModelError, NotFoundError
from penstock.core.time import DAY_US, to_us
from penstock.definitions.monitors import Monitor
from penstock.engine.decisions import Decisions
from penstock.engine.ports import LogReader
from penstock.models.manifest import read_files
from penstock.models.registry import ModelRegistry, ModelVersion
from penstock.monitoring.board import Scored
from penstock.monitoring.bulk_time import BulkClock
from penstock.monitoring.change_points import STEPS, ChangePoint, Listener, RankScale
from penstock.monitoring.drift import Drift, measure_drift
from penstock.monitoring.hours import HOUR_US
from penstock.monitoring.profile import ColumnProfile, Profile, Sample, parse_profile
from penstock.plan.nodes import Plan

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
METHODS: dict[str, Literal["bh", "by"]] = {"benjamini-hochberg": "bh", "benjamini-yekutieli": "by"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What `penstock drift` found.

    Attributes
    ----------
    start_us, end_us
        The event times compared, from exclusive to inclusive; of labels `label_start_us` and `label_end_us`, whose labels
        had their time.
    drift
        By column.
    change_points
        Where detectors fired, over all decisions of the endpoint.
    note
        Why there are no change points, where they could not be looked for.
    warning
        Why the comparison says little of days, where it is not of whole days; empty where it is.
    """

    endpoint: str
    version: str
    start_us: int
    end_us: int
    label_start_us: int
    label_end_us: int
    rows: int
    drift: Drift
    change_points: tuple[ChangePoint, ...]
    note: str = ""
    warning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        document = asdict(self)
        return {**document, "drift": self.drift.to_dict()}


@dataclass(frozen=True, slots=True)
class Reference:
    """A model version as drift is measured against it: label, the fingerprint of its features, the profile of its data."""

    version: str
    service: str
    profile: Profile


def reference_of(registry: ModelRegistry, model: str, version: str | None = None) -> Reference:
    """The reference of a version of `model`, by default the one in Production.

    Raises
    ------
    NotFoundError
        There is no such version.
    ModelError
        It was registered before profiles were kept.
    """
    versions = registry.versions(model)
    chosen = _chosen(versions, version)
    if chosen is None:
        known = ", ".join(one.label for one in versions) or "none"
        raise NotFoundError(
            f"Model {model!r}: {'none is in Production' if version is None else f'there is no version {version!r}'}; "
            f"registered are {known}. Promote one (penstock registry promote), or name one with --model."
        )
    manifest = chosen.manifest()
    if not any(entry.role == "profile" for entry in manifest.files):
        raise ModelError(
            f"Model {chosen.label!r}: it was registered without a profile of its training data, so there is nothing to "
            f"compare with. Train again: penstock train {model}."
        )
    files = read_files(chosen.folder, digest=chosen.digest)
    profile = parse_profile(files["profile"], where=chosen.label)
    return Reference(chosen.label, manifest.service_fingerprint, profile)


def _chosen(versions: Sequence[ModelVersion], version: str | None) -> ModelVersion | None:
    if version is None:
        return next((one for one in versions if one.stage == "Production"), None)
    return next((one for one in versions if version in {one.label, str(one.version)}), None)


def drift_report(
    store: LogReader,
    plan: Plan,
    monitor: Monitor,
    *,
    reference: Reference,
    start: int = 0,
    progress: Progress | None = None,
) -> DriftReport:
    """Compare the newest `drift_window` of an endpoint with what a version was trained on.

    Scores are those of the version; features and labels those of every decision with the features that it consumes. Labels are
    of the newest window whose labels had their time. Decisions before log position `start` are not read.
    """
    newest = _newest(store, plan, monitor, start)
    width, delay = to_us(monitor.drift_window), to_us(monitor.delay)
    compared = _Compared(reference, newest, newest - delay, width)
    for scored, labels, decisions in scored_batches(store, plan, monitor, start=start, progress=progress):
        columns = plan.columns_of(monitor.endpoint.name, logged=decisions.service, wanted=reference.service)
        if columns is not None:
            compared.add(scored, labels, decisions, columns)
    return DriftReport(
        endpoint=monitor.endpoint.name,
        version=reference.version,
        start_us=newest - width,
        end_us=newest,
        label_start_us=newest - delay - width,
        label_end_us=newest - delay,
        rows=compared.rows,
        drift=measure_drift(
            compared.samples,
            false_alarms=monitor.false_alarms,
            method=METHODS[monitor.false_discovery],
            min_effect=monitor.min_effect,
        ),
        change_points=compared.change_points,
        note=compared.note,
        warning=_warning(width, newest - compared.oldest_us),
    )


def _warning(width_us: int, covered_us: int) -> str:
    """What to say of a window that is not of whole days: its hours are no fair sample of those of the training data."""
    covered = min(covered_us, width_us)
    if width_us % DAY_US and width_us > DAY_US:
        return (
            f"drift_window is {timedelta(microseconds=width_us)}, not whole days: where values follow the hour of the day, that alone is a "
            "difference from the training data. Choose whole days (timedelta(days=...))."
        )
    if width_us % DAY_US or ((covered + HOUR_US) % DAY_US > 2 * HOUR_US and covered < width_us - HOUR_US):
        return (
            f"These are decisions of {covered / HOUR_US:.1f} hours, not of whole days: where values follow the hour of the day, that alone is "
            "a difference from the training data. Look again when days are over."
        )
    return ""


def _newest(store: LogReader, plan: Plan, monitor: Monitor, start: int) -> int:
    clock = BulkClock()
    newest = max(
        (
            clock.newest(scored.times_us)
            for scored, _, _ in scored_batches(store, plan, monitor, labelled=False, start=start)
            if len(scored.times_us)
        ),
        default=None,
    )
    if newest is None:
        raise NotFoundError(
            f"Endpoint {monitor.endpoint.name!r}: nothing was decided yet, so there is nothing to compare. Run it: penstock run."
        )
    return newest


class _Compared:
    """The samples of a report, and the detectors, as decisions come by."""

    def __init__(self, reference: Reference, newest_us: int, mature_us: int, width_us: int) -> None:
        self._version, profile = reference.version, reference.profile
        self._newest, self._mature, self._width = newest_us, mature_us, width_us
        of_days = width_us % DAY_US == 0
        columns = [one.of_days() if of_days else one for one in profile.columns]
        features = [column for column in columns if column.role == "feature"]
        score, label = (
            next((one for one in columns if one.role == role), None) for role in ("score", "label")
        )
        self.rows = 0
        self.oldest_us = newest_us
        """The oldest event time that is compared."""
        self.note = ""
        self._features = [Sample(column) for column in features]
        self._score, self._label = _sample(score), _sample(label)
        self._points: list[ChangePoint] = []
        self._listeners = self._listening([*features, *filter(None, [score])])

    @property
    def samples(self) -> list[Sample]:
        """One a column: score and label first."""
        return [*filter(None, [self._score, self._label]), *self._features]

    @property
    def change_points(self) -> tuple[ChangePoint, ...]:
        """By time."""
        return tuple(sorted(self._points, key=lambda point: (point.time_us, point.stream)))

    def add(self, scored: Scored, labels: FloatArray, decisions: Decisions, columns: tuple[int, ...]) -> None:
        """Count decisions of a batch; `columns` of their vectors are the features."""
        recent = self._inside(scored, self._newest)
        self.rows += int(recent.sum())
        self.oldest_us = int(scored.times_us[recent].min(initial=self.oldest_us))
        for i, sample in zip(columns, self._features, strict=True):
            sample.add(decisions.vectors[recent, i])
            self._detect(sample.reference.name, scored, decisions.vectors[:, i])
        own = decisions.of_version(self._version)
        if self._score is not None and own.any():
            self._score.add(scored.scores[recent & own])
            if own.all():
                self._detect("score", scored, scored.scores)
        mature = self._inside(scored, self._mature) & ~np.isnan(labels)
        if self._label is not None:
            self._label.add(labels[mature])

    def _inside(self, scored: Scored, end_us: int) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = (scored.times_us > end_us - self._width) & (scored.times_us <= end_us)
        return inside

    def _detect(self, name: str, scored: Scored, values: FloatArray) -> None:
        if name in self._listeners:
            self._points += [point for _, point in self._listeners[name].add(scored.times_us, values)]

    def _listening(self, columns: list[ColumnProfile]) -> dict[str, Listener]:
        span = self._width // STEPS
        try:
            return {column.name: Listener(column.name, RankScale(column), span_us=span) for column in columns}
        except MissingDependencyError as error:
            self.note = str(error)
            return {}


def _sample(column: ColumnProfile | None) -> Sample | None:
    return None if column is None else Sample(column)
