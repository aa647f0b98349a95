"""How the features of an endpoint's newest decisions are distributed, as the models saw them. Reads the store only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.app.measuring import Progress, scored_batches
from penstock.monitoring.profile import ColumnProfile, profile_column

if TYPE_CHECKING:
    from penstock.definitions.monitors import Monitor
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import Plan

ROWS = 100_000
STEPS = 30
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_TAIL = 0.005
FloatArray = npt.NDArray[np.float64]


def distributions(
    store: LogReader, plan: Plan, monitor: Monitor, *, rows: int = ROWS, progress: Progress | None = None
) -> dict[str, Any]:
    """The distribution of each feature over the newest `rows` decisions, as JSON values.

    Only decisions with the features in force are counted.
    """
    name = monitor.endpoint.name
    service = plan.services[plan.endpoints[name].service]
    vectors, times = _newest(store, plan, monitor, rows=rows, progress=progress)
    return {
        "endpoint": name,
        "rows": len(vectors),
        "first_us": int(times.min()) if len(times) else None,
        "last_us": int(times.max()) if len(times) else None,
        "features": [described(feature, vectors[:, i]) for i, feature in enumerate(service.feature_names)],
    }


def described(name: str, values: FloatArray) -> dict[str, Any]:
    """A column for drawing: each of a few values, or equal steps between its outermost half percents, and what is beyond.

    >>> found = described("kind", np.array([1.0, 2.0, 1.0, np.nan] * 10))
    >>> found["values"], found["counts"], found["missing"]
    ([1.0, 2.0], [20, 10], 0.25)
    """
    profile = profile_column(name, values)
    held = values[np.isfinite(values)]
    found: dict[str, Any] = {
        "name": name,
        "rows": profile.rows,
        "missing": profile.missing / max(len(values), 1),
        "mean": profile.mean if profile.rows else None,
        "spread": profile.spread if profile.rows else None,
        "quantiles": {f"{q:g}": float(np.quantile(held, q)) for q in QUANTILES} if len(held) else {},
    }
    return found | _bars(profile, held)


def _bars(profile: ColumnProfile, held: FloatArray) -> dict[str, Any]:
    if profile.is_discrete or not len(held):
        return {
            "values": list(profile.cuts),
            "counts": list(profile.counts),
            "edges": None,
            "below": 0,
            "above": 0,
        }
    low, high = np.quantile(held, [_TAIL, 1 - _TAIL])
    counts, edges = np.histogram(held, STEPS, (low, high))
    below, above = int((held < low).sum()), int((held > high).sum())
    return {
        "values": None,
        "counts": counts.tolist(),
        "edges": edges.tolist(),
        "below": below,
        "above": above,
    }


def _newest(
    store: LogReader, plan: Plan, monitor: Monitor, *, rows: int, progress: Progress | None
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """The vectors and times of the newest decisions, looked for ever further back."""
    service = plan.services[plan.endpoints[monitor.endpoint.name].service]
    end, span = store.next_position, 2 * rows
    while True:
        start = max(end - span, 0)
        parts: list[tuple[FloatArray, npt.NDArray[np.int64]]] = []
        for scored, _, decisions in scored_batches(
            store, plan, monitor, labelled=False, start=start, progress=progress
        ):
            if decisions.service == service.fingerprint:
                parts.append((decisions.vectors[-rows:], scored.times_us[-rows:]))
                while len(parts) > 1 and sum(len(one) for one, _ in parts[1:]) >= rows:
                    parts.pop(0)
        if not start or sum(len(one) for one, _ in parts) >= rows:
            break
        span *= 8
    if not parts:
        return np.zeros((0, len(service.feature_names))), np.zeros(0, np.int64)
    return np.concatenate([v for v, _ in parts])[-rows:], np.concatenate([t for _, t in parts])[-rows:]
