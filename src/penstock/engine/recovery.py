"""State that outlives the process: encoded for a snapshot, and recovered as snapshot plus log tail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import msgspec

from penstock.core.errors import SnapshotError
from penstock.engine.features import FeatureState
from penstock.engine.ports import LogReader
from penstock.engine.replay import replay
from penstock.engine.view_states import KeyedState, restored_state
from penstock.plan.compile import view_fingerprint
from penstock.plan.nodes import Plan, ViewNode

Progress = Callable[[int, int], None]


def no_progress(_done: int, _total: int) -> None:
    """Report nothing."""


def encode_state(state: FeatureState) -> bytes:
    """All views' state as bytes, each under its view's fingerprint; equal states give equal bytes."""
    views = zip(state.plan.views, state.views, strict=True)
    return msgspec.msgpack.encode(
        [(view_fingerprint(state.plan, node), view.snapshot()) for node, view in views]
    )


def decode_state(plan: Plan, data: bytes) -> FeatureState:
    """The state of `encode_state`; raises `SnapshotError` where it is damaged or lacks a view of `plan`."""
    known = decode_views(plan, data)
    missing = [view.name for view in plan.views if view.name not in known]
    if missing:
        raise SnapshotError(
            f"snapshot: it does not hold view {missing[0]!r} as it is defined now. Run `penstock replay --rebuild`."
        )
    return FeatureState(plan, views=[known[view.name] for view in plan.views])


def decode_views(plan: Plan, data: bytes) -> dict[str, KeyedState]:
    """The views of `plan` whose state is among those of `encode_state`, of this plan or another, by name."""
    try:
        states = dict(msgspec.msgpack.decode(data, type=list[tuple[str, bytes]]))
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise SnapshotError(
            f"snapshot: its state cannot be read ({error}); it is made again from the log."
        ) from error
    wanted = [(view, view_fingerprint(plan, view)) for view in plan.views]
    return {view.name: restored_state(view, states[name]) for view, name in wanted if name in states}


def fold_plan(new: Plan, views: tuple[ViewNode, ...]) -> Plan:
    """A plan that computes these views of `new`, for nobody."""
    sources = {view.source for view in views}
    sources |= {str(label) for name in sources if (label := new.sources[name].label_of) is not None}
    return replace(
        new,
        sources={name: node for name, node in new.sources.items() if name in sources},
        views=views,
        services={},
        endpoints={},
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
        ``(position, encoded state)`` to start from. Views that it does not hold, since it was taken under another plan, are
        folded from the beginning.
    progress
        Called with (rows folded, rows to fold).
    """
    total = store.next_position
    start, known = (0, {}) if snapshot is None else (snapshot[0], decode_views(plan, snapshot[1]))
    missing = tuple(view for view in plan.views if view.name not in known)
    if start and missing:
        apart = FeatureState(fold_plan(plan, missing))
        for replayed in replay(store, apart, stop=start):
            progress(replayed.chunk.stop, total)
        known |= dict(zip((view.name for view in missing), apart.views, strict=True))
    state = FeatureState(plan, views=[known[view.name] for view in plan.views] if start else None)
    for replayed in replay(store, state, start=start, stop=total):
        progress(replayed.chunk.stop - start, total - start)
    return state
