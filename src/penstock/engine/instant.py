"""A new plan on a running engine: what is new is folded from the log beside it, then everything is swapped at once.

1. Views that mean the same in both plans keep their state, which is shared.
2. The others are folded from the beginning of the log, in a thread of their own, while the engine goes on.
3. When little is missing, the rest is folded between two micro-batches, and the engine goes on with the new plan: its
   state is what it would be had the views been there from the start.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.core.errors import StoreError
from penstock.engine.features import FeatureState
from penstock.engine.ports import LogReader
from penstock.engine.recovery import Progress, fold_plan, no_progress
from penstock.engine.replay import CHUNK_ROWS, replay
from penstock.plan.compile import view_fingerprint
from penstock.plan.nodes import Plan, ViewNode

CLOSE_ROWS = 2 * CHUNK_ROWS
"""How far behind the engine a fold may be for the rest to be done between two micro-batches."""


def new_views(old: Plan, new: Plan) -> tuple[ViewNode, ...]:
    """The views of `new` that have no state in `old`."""
    known = {view_fingerprint(old, view) for view in old.views}
    return tuple(view for view in new.views if view_fingerprint(new, view) not in known)


class Fold:
    """The state of the views that a new plan adds to a running one, on its way along the log.

    Parameters
    ----------
    store
        The log; read beside the engine that writes it.
    old, new
        The plan that runs and the one to come.
    """

    def __init__(self, store: LogReader, old: Plan, new: Plan) -> None:
        self.new = new
        self.position = 0
        self._store = store
        self._old = old
        self._views = new_views(old, new)
        self._state = FeatureState(fold_plan(new, self._views))

    def approach(self, *, progress: Progress = no_progress, stop: Callable[[], bool] = lambda: False) -> None:
        """Fold until less than `CLOSE_ROWS` of what is committed is missing; `stop` ends it early."""
        while not stop() and self._store.next_position - self.position >= CLOSE_ROWS:
            self._fold(self._store.next_position, progress, stop)

    def finish(self, position: int, running: FeatureState) -> FeatureState:
        """The state of the new plan at `position`, where `running`, the old plan's, stands; all of it is committed."""
        self._fold(position, no_progress, lambda: False)
        if self.position != position:
            raise StoreError(
                f"new definitions: the log ends at {self.position}, and the engine stands at {position}. Wait for the commit "
                "under way first."
            )
        kept = {
            view_fingerprint(self._old, node): state
            for node, state in zip(self._old.views, running.views, strict=True)
        }
        folded = dict(zip((view.name for view in self._views), self._state.views, strict=True))
        views = [kept.get(view_fingerprint(self.new, node)) or folded[node.name] for node in self.new.views]
        return FeatureState(self.new, views=views)

    def _fold(self, stop_at: int, progress: Progress, stop: Callable[[], bool]) -> None:
        if not self._views:
            self.position = stop_at
            return
        for replayed in replay(self._store, self._state, start=self.position, stop=stop_at):
            self.position = replayed.chunk.stop
            progress(self.position, stop_at)
            if stop():
                return
