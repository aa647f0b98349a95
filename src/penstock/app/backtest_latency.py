"""What one event costs, in force and instead: models, and features where they differ, measured in turns over the same events.

Processor time of this process, the 99th percentile. Side by side the figures are comparable; what they are beside a server's own is another matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penstock.app.runtime import learned_path, registry_of
from penstock.core.errors import ModelError, NotFoundError
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import Rows
from penstock.engine.replay import read_chunks
from penstock.engine.routing import RouteArm
from penstock.models.latency import latencies_ms
from penstock.models.loading import Kept, load_model

if TYPE_CHECKING:
    import numpy.typing as npt

    from penstock.app.logged_decisions import LoggedBlock
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import EndpointNode, Plan, ServiceNode

MOST_EVENTS = 1000
WARM_ROWS = 200_000
"""So many rows of the log before the events are folded first, so that windows are not empty."""


def arm_in_force(root: Path, plan: Plan, endpoint: EndpointNode, block: LoggedBlock) -> RouteArm | None:
    """The version that decided on the newest event of a block; None where there was none, or it cannot be loaded any more."""
    decisions = block.decisions
    label = decisions.decided_by(len(decisions) - 1).version.partition("+")[0]
    if not label or endpoint.name not in plan.endpoints:
        return None
    name, _, number = label.partition(":")
    try:
        version = registry_of(root).get(name, number)
        wanted = version.manifest().service_fingerprint
        columns = plan.columns_of(endpoint.name, logged=decisions.service, wanted=wanted)
        if columns is None:
            return None
        states = Kept(learned_path(root))
        model = load_model(version.folder, digest=version.digest, version=version.label, states=states)
    except (ModelError, NotFoundError):
        return None
    return RouteArm("", 1.0, model, np.array(columns, np.int64))


def model_latencies(
    arms: Sequence[RouteArm | None], vectors: Sequence[npt.NDArray[np.float64]]
) -> list[float | None]:
    """What each arm takes for one of the newest rows of its vectors, in ms; the same events for all. None: no model."""
    calls: list[Callable[[int], object]] = []
    for arm, rows in zip(arms, vectors, strict=True):
        if arm is not None:
            calls.append(_scoring(arm, rows[-MOST_EVENTS:]))
    found = iter(latencies_ms(calls, min(len(vectors[0]), MOST_EVENTS)) if calls else ())
    return [None if arm is None else next(found) for arm in arms]


def _scoring(arm: RouteArm, rows: npt.NDArray[np.float64]) -> Callable[[int], object]:
    return lambda row: arm.score(rows[row : row + 1])


def feature_latencies(
    store: LogReader, sides: Sequence[tuple[Plan, ServiceNode]], positions: npt.NDArray[np.int64]
) -> list[float]:
    """What the features of one event take on each side, in ms, for the newest of the events at `positions`."""
    last = positions[-MOST_EVENTS:]
    first, stop = int(last[0]), int(last[-1]) + 1
    calls = [_computing(store, plan, service, first, stop) for plan, service in sides]
    events = min(count for _, count in calls)
    return latencies_ms([call for call, _ in calls], events)


def _computing(
    store: LogReader, plan: Plan, service: ServiceNode, first: int, stop: int
) -> tuple[Callable[[int], object], int]:
    """What computes the features of the n-th event of ``[first, stop)``, and how many there are."""
    state = FeatureState(plan)
    for chunk in read_chunks(store, plan, start=max(first - WARM_ROWS, 0), stop=first):
        state.advance(chunk.rows, services=[], skip_failing=True)
    found: list[Rows] = []
    for chunk in read_chunks(store, plan, start=first, stop=stop):
        rows = chunk.rows.get(service.source)
        if rows is not None:
            found += [
                Rows(rows.columns.take(np.array([i])), rows.positions[i : i + 1])
                for i in range(len(rows.positions))
            ]

    def compute(row: int) -> object:
        return state.advance({service.source: found[row]}, services=[service], skip_failing=True)

    return compute, min(len(found), MOST_EVENTS)
