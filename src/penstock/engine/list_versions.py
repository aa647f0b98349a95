"""Which version of each list of keys was in force where: how many changes of it the log had before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from penstock.engine.decisions import VersionArray
from penstock.kernel.columns import IntArray
from penstock.plan.nodes import SourceNode

COUNTER = "list_changes."


class ListVersions:
    """The versions of a plan's lists at the end of the log.

    Parameters
    ----------
    sources
        The plan's sources.
    counters
        The store's totals.
    """

    def __init__(self, sources: Mapping[str, SourceNode], counters: Mapping[str, int]) -> None:
        self._now = {
            name: counters.get(f"{COUNTER}{name}", 0) for name, node in sources.items() if node.is_list
        }

    def __bool__(self) -> bool:
        """Whether there are lists."""
        return bool(self._now)

    def step(self, changes: Mapping[str, IntArray], counted: dict[str, int]) -> dict[str, IntArray]:
        """Take the changes of a micro-batch in, by list their positions, and count them; those of lists that are known."""
        found = {name: at for name, at in changes.items() if name in self._now and len(at)}
        for name, at in found.items():
            self._now[name] += len(at)
            counted[f"{COUNTER}{name}"] = len(at)
        return found

    def at(self, positions: IntArray, lists: Sequence[str], changes: Mapping[str, IntArray]) -> VersionArray:
        """The versions of `lists` for events at `positions`, of the micro-batch whose `changes` were taken in: uint32[n or 1, lists]."""
        changed = [name for name in lists if name in changes]
        now = np.array([[self._now[name] for name in lists]], np.uint32)
        if not changed:
            return now
        found = np.repeat(now, len(positions), axis=0)
        for name in changed:
            at = np.sort(changes[name])
            later = len(at) - np.searchsorted(at, positions)
            found[:, list(lists).index(name)] -= later.astype(np.uint32)
        return found
