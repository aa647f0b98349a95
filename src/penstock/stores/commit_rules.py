"""What a commit must satisfy before anything of it is written: it continues the log, and its parts belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.core.records import DecisionBatch, EventIds, LogBatch

PositionArray = npt.NDArray[np.int64]


def stop_of(log: Sequence[LogBatch], start: int) -> int:
    """The position after the last of `log`, which must hold each position from `start` once."""
    if not log:
        return start
    for batch in log:
        _check_rows(batch.source, batch.positions)
    if len(log) == 1:
        positions = log[0].positions
    else:
        positions = np.concatenate([batch.positions for batch in log])
        positions.sort()
    stop = start + len(positions)
    first, last = positions.item(0), positions.item(-1)
    rising = len(positions) == 1 or (all(_rising(batch.positions) for batch in log) and _rising(positions))
    if first != start or last != stop - 1 or not rising:
        raise InputError(
            f"commit of positions {first} to {last} ({len(positions)} rows): the log continues at {start}, so each "
            f"position from {start} to {stop - 1} must come once, ascending within a batch. Take them from next_position."
        )
    return stop


def _check_rows(name: str, positions: PositionArray) -> None:
    if not len(positions):
        raise InputError(
            f"batch of {name!r}: it has no rows, and at least one is needed. Leave empty batches out."
        )


def check_decisions(
    decisions: Sequence[DecisionBatch], span: range, *, checked: PositionArray | None = None
) -> None:
    """Raise `InputError` unless the decisions are for events of this commit; those at the positions `checked` are."""
    for batch in decisions:
        if batch.positions is checked:
            continue
        _check_rows(batch.endpoint, batch.positions)
        first, last = batch.positions.item(0), batch.positions.item(-1)
        if first < span.start or last >= span.stop or not _rising(batch.positions):
            raise InputError(
                f"decisions of endpoint {batch.endpoint!r} for positions {first} to {last}: this commit holds {span.start} "
                f"to {span.stop - 1}, and decisions are for its events, ascending. Commit a decision with its event."
            )


def check_ids(ids: EventIds | None, span: range, *, checked: PositionArray | None = None) -> None:
    """Raise `InputError` unless there is one hash an event, for events of this commit, as those at the positions `checked` are."""
    if ids is None or not len(ids.positions):
        return
    if ids.positions is checked and len(ids.hashes) == len(checked):
        return
    first, last = ids.positions.item(0), ids.positions.item(-1)
    if (
        first < span.start
        or last >= span.stop
        or len(ids.hashes) != len(ids.positions)
        or not _rising(ids.positions)
    ):
        raise InputError(
            f"event ids: {len(ids.hashes)} hashes for {len(ids.positions)} positions from {first} to {last}; this commit "
            f"holds {span.start} to {span.stop - 1}. Give one hash an event of this commit, ascending."
        )


def _rising(positions: PositionArray) -> bool:
    return len(positions) == 1 or bool((positions[1:] > positions[:-1]).all())
