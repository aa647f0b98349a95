"""State that outlives the process: encoded for a snapshot, and recovered as snapshot plus log tail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from penstock.core.errors import SnapshotError
from penstock.engine.features import FeatureState
from penstock.engine.ports import LogReader
from penstock.engine.replay import replay
from penstock.kernel.state import ViewState
from penstock.plan.nodes import Plan

Progress = Callable[[int, int], None]


def no_progress(_done: int, _total: int) -> None:
    """Report nothing."""


def encode_state(state: FeatureState) -> bytes:
    """All views' state as bytes; equal states give equal bytes."""
    return msgspec.msgpack.encode([view.snapshot() for view in state.views])


def decode_state(plan: Plan, data: bytes) -> FeatureState:
    """The state of `encode_state`; raises `SnapshotError` where it is damaged or of another plan."""
    try:
        views = msgspec.msgpack.decode(data, type=list[bytes])
    except msgspec.DecodeError as error:
        raise SnapshotError(
            f"snapshot: its state cannot be read ({error}); it is made again from the log."
        ) from error
    if len(views) != len(plan.views):
        raise SnapshotError(
            f"snapshot: it holds {len(views)} views and the plan {len(plan.views)}. Run `penstock replay --rebuild`."
        )
    return FeatureState(
        plan,
        views=[ViewState.restore(node.program, view) for node, view in zip(plan.views, views, strict=True)],
    )


def schema_hash(plan: Plan) -> str:
    """A digest of all sources' columns."""
    text = repr([(name, source.fields) for name, source in plan.sources.items()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def catch_up(
    store: LogReader,
    plan: Plan,
    *,
    snapshot: tuple[int, bytes] | None = None,
    progress: Progress = no_progress,
) -> FeatureState:
    """The state at the end of the log.

    Parameters
    ----------
    snapshot
        ``(position, encoded state)`` to start from.
    progress
        Called with (rows folded, rows to fold).
    """
    start, state = (
        (0, FeatureState(plan)) if snapshot is None else (snapshot[0], decode_state(plan, snapshot[1]))
    )
    total = store.next_position
    for replayed in replay(store, state, start=start, stop=total):
        progress(replayed.chunk.stop - start, total - start)
    return state
