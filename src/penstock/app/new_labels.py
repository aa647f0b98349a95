"""Which labels are new to a model: those that joined their events since it was last trained on the log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from penstock.core.errors import PenstockError

if TYPE_CHECKING:
    from penstock.app.arrivals import Arrivals
    from penstock.models.registry import ModelRegistry, ModelVersion
    from penstock.models.triggers import State
    from penstock.stores.reader import ProjectReader

STEP_ROWS = 200_000


class NewLabels:
    """The labels that joined their events from a log position on, counted as the log grows."""

    def __init__(self, since: int) -> None:
        self.since, self.labels, self.positives = since, 0, 0
        self._read = since

    def read(self, store: ProjectReader, arrivals: Arrivals) -> None:
        """Count those that joined since the last call."""
        stop = store.next_position
        while self._read < stop:
            end = min(self._read + STEP_ROWS, stop)
            arrived = arrivals.labels(self._read, end)
            self.labels += len(arrived.values)
            self.positives += int(np.count_nonzero(arrived.values > 0))
            self._read = end


def used_up_to(state: State, learned: int | None) -> State:
    """What earlier attempts left behind, with the labels as used that a version has learned which was trained otherwise."""
    return state if learned is None else replace(state, position=max(state.position, learned))


class LearnedPositions:
    """How far into the log the versions of models have learned, whoever trained them.

    Only versions that were put to use at some time count (Staging, Production): what somebody tried and left is no reason to
    train later.

    Parameters
    ----------
    registry
        Where versions are.
    log
        The id of the log that is meant; versions made from another say nothing.
    """

    def __init__(self, registry: ModelRegistry, log: str) -> None:
        self._registry, self._log = registry, log
        self._known: dict[str, int | None] = {}

    def position(self, name: str) -> int | None:
        """The log's length when the newest of a model's versions was trained on it; None where no version says so."""
        used = [one for one in self._registry.versions(name) if one.stage != "None"]
        return max((at for one in used if (at := self._of(one)) is not None), default=None)

    def _of(self, version: ModelVersion) -> int | None:
        if version.digest not in self._known:
            try:
                origin = version.manifest().origin
            except (PenstockError, OSError):  # not at hand now, as of a server that is away: asked again
                return None
            self._known[version.digest] = (
                origin.position if origin is not None and origin.log == self._log else None
            )
        return self._known[version.digest]
