"""What labels count for in training, where some events were let through so that their label becomes known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.engine.decisions import Decisions

if TYPE_CHECKING:
    import numpy.typing as npt

    from penstock.engine.ports import LogReader
    from penstock.kernel.columns import IntArray
    from penstock.plan.nodes import Plan


def label_weights_at(
    store: LogReader, plan: Plan, source: str, positions: IntArray
) -> npt.NDArray[np.float64] | None:
    """The weight of the label of each event of `source` at ascending `positions`: `Decisions.label_weights`; one without a decision.

    None where nothing was ever explored, so that all count one.
    """
    if not store.counters().get("explored") or not len(positions):
        return None
    weights = np.ones(len(positions))
    endpoints = {endpoint.name for endpoint in plan.endpoints.values() if endpoint.source == source}
    for batch in store.read_decisions(int(positions[0]), int(positions[-1]) + 1, endpoints=endpoints):
        at = np.searchsorted(positions, batch.positions)
        at[at == len(positions)] = 0
        there = positions[at] == batch.positions
        weights[at[there]] = Decisions.from_bytes(batch.payload).label_weights()[there]
    return weights
