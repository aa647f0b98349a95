"""`GET /v1/live` again and again, of which only what is new is asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.core.time import from_us

LIVE = "/v1/live"
SLOTS = {1: 900, 60: 1_440, 3_600: 720}
"""By seconds of a slot how many there are at most."""

Live = dict[str, Any]
_OF_ALL = frozenset({"score_edges"})
"""Lists that are not by slot."""


class LiveReads:
    """The live history of one resolution, kept up to date.

    Parameters
    ----------
    read
        Asks for the slots that begin at a time (ISO 8601) or later; None: for all.
    """

    def __init__(self, read: Callable[[str | None], Awaitable[Live]]) -> None:
        self._read = read
        self._kept: Live | None = None

    async def get(self) -> Live:
        """The whole history."""
        kept = self._kept
        if kept is None or not kept["start_us"]:
            found = await self._read(None)
        else:
            since_us = kept["start_us"][-1]  # the slot that was under way
            found = joined(kept, await self._read(from_us(since_us).isoformat()))
        self._kept = found
        return found


def joined(kept: Live, newer: Live) -> Live:
    """A history with what came later, without what is too old by now.

    Parameters
    ----------
    kept, newer
        Bodies of ``GET /v1/live``; slots that both have count as `newer` says.

    Examples
    --------
    >>> old = {
    ...     "step_s": 1,
    ...     "until_us": 2_500_000,
    ...     "start_us": [1_000_000, 2_000_000],
    ...     "actions": {"a": [1, 2]},
    ...     "n": [5, 6],
    ... }
    >>> new = {
    ...     "step_s": 1,
    ...     "until_us": 3_500_000,
    ...     "start_us": [2_000_000, 3_000_000],
    ...     "actions": {"a": [3, 0], "b": [0, 1]},
    ...     "n": [7, 8],
    ... }
    >>> found = joined(old, new)
    >>> found["start_us"], found["actions"], found["n"]
    ([1000000, 2000000, 3000000], {'a': [1, 3, 0], 'b': [0, 0, 1]}, [5, 7, 8])
    """
    start_us, later_us = kept["start_us"], newer["start_us"]
    width_us = newer["step_s"] * 1_000_000
    oldest_us = (newer["until_us"] // width_us - SLOTS[newer["step_s"]] + 1) * width_us
    begin = bisect_left(start_us, oldest_us)
    end = bisect_left(start_us, later_us[0]) if later_us else len(start_us)
    none = [0] * len(start_us)
    figures = {
        name: kept[name][begin:end] + values
        for name, values in newer.items()
        if isinstance(values, list) and name not in _OF_ALL
    }
    actions = {
        name: kept["actions"].get(name, none)[begin:end] + values for name, values in newer["actions"].items()
    }
    return newer | figures | {"actions": actions}
