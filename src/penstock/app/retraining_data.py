"""What a model is trained on again: the newest events whose labels had their time, read from the log a part at a time.

The log is replayed, since features are a fold of it, but of its rows only those are held that the model's split can reach. What is
held does not grow with the log.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penstock.app.training import data_from_log, policy_of
from penstock.core.errors import InputError
from penstock.core.time import to_us
from penstock.engine.assembly import concat_features
from penstock.engine.history import LoggedFeatures, feature_parts
from penstock.engine.recovery import Progress, no_progress
from penstock.kernel.columns import concat
from penstock.monitoring.bulk_time import BulkClock

if TYPE_CHECKING:
    from penstock.definitions.models import Model
    from penstock.definitions.project import Project
    from penstock.engine.ports import LogReader
    from penstock.kernel.columns import IntArray
    from penstock.models.training import TrainingData
    from penstock.plan.nodes import Plan, ServiceNode

STEP_ROWS = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class Recent:
    """The rows of a log up to `stop` whose event time is in ``[start_us, end_us)``, with features as served and labels."""

    logged: LoggedFeatures
    data: TrainingData
    start_us: int
    end_us: int
    stop: int


def recent_data(
    store: LogReader,
    project: Project,
    plan: Plan,
    model: Model,
    *,
    stop: int,
    progress: Progress = no_progress,
) -> Recent:
    """The rows that a retraining trains and is judged on.

    They end so long before the newest event as labels take: what is younger has only the labels that come early, which are not
    like the others. They begin where the model's split begins, if it ends there.

    Raises `InputError` where the log holds no events that are old enough.
    """
    split, service = model.split, plan.services[model.features.name]
    delay, reach = to_us(split.delay), to_us(split.train + split.delay + split.test)
    kept: deque[tuple[LoggedFeatures, IntArray]] = deque()
    newest, clock = np.iinfo(np.int64).min, BulkClock()
    for part in feature_parts(store, plan, service, stop=stop, progress=progress):
        times = _times(part, plan, service)
        newest = max(newest, clock.newest(times)) if len(times) else newest
        kept.append((part, times))
        while kept and int(kept[0][1].max(initial=newest - 2 * reach)) < newest + 1 - delay - reach:
            kept.popleft()
    end_us = int(newest) + 1 - delay
    start_us = end_us - reach
    parts = [found for held in kept if (found := _within(*held, start_us, end_us)) is not None]
    if not parts:
        raise InputError(
            f"retraining: model {model.name!r} has no event that is older than its labels take ({split.delay}). Wait for events."
        )
    logged = LoggedFeatures(
        concat([part.events for part in parts]),
        np.concatenate([part.positions for part in parts]),
        concat_features([part.features for part in parts]),
    )
    logged = logged.take(np.argsort(logged.positions))
    data = data_from_log(store, plan, model, logged, policy=policy_of(project, model), stop=stop)
    return Recent(logged, data, start_us, end_us, stop)


def newest_time(store: LogReader, plan: Plan, model: Model, *, stop: int) -> int | None:
    """About the newest event time of a model's stream: that of its last rows in the log together (`BulkClock`)."""
    source = plan.sources[plan.services[model.features.name].source]
    for end in range(stop, 0, -STEP_ROWS):
        batches = store.read_log(max(end - STEP_ROWS, 0), end, sources={source.name})
        times = [_times_of(batch.payload, source.time_field) for batch in batches]
        if times:
            return BulkClock().newest(np.concatenate(times))
    return None


def position_since(store: LogReader, plan: Plan, model: Model, *, since_us: int, stop: int) -> int:
    """A position before which hardly an event of a model's stream is of `since_us` or later; by bisection."""
    source = plan.sources[plan.services[model.features.name].source]
    low, high = 0, stop
    while high - low > STEP_ROWS // 10:
        middle = (low + high) // 2
        batch = next(iter(store.read_log(middle, min(middle + STEP_ROWS, stop), sources={source.name})), None)
        if batch is None or newest_of(batch.payload, source.time_field) >= since_us:
            high = middle
        else:
            low = middle
    return low


def newest_of(payload: bytes, time_field: str) -> int:
    """The newest event time in a batch of the log, whatever single rows say."""
    return BulkClock().newest(_times_of(payload, time_field))


def _times_of(payload: bytes, time_field: str) -> IntArray:
    from penstock.kernel.columns import Columns

    times: IntArray = Columns.from_bytes(payload)[time_field].values.astype(np.int64)  # type: ignore[union-attr]
    return times


def _times(part: LoggedFeatures, plan: Plan, service: ServiceNode) -> IntArray:
    times: IntArray = part.events[plan.sources[service.source].time_field].values.astype(np.int64)  # type: ignore[union-attr]
    return times


def _within(part: LoggedFeatures, times: IntArray, start_us: int, end_us: int) -> LoggedFeatures | None:
    rows = np.flatnonzero((times >= start_us) & (times < end_us))
    return part.take(rows) if len(rows) else None
