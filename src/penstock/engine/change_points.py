"""When a row changes what a window holds: as it enters, and as it leaves."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.core.errors import InputError
from penstock.definitions.aggregate_functions import KEYS, TRAITS
from penstock.definitions.user_aggregations import USER_DEFINED
from penstock.kernel.columns import IntArray
from penstock.kernel.program import ENDLESS_US, Window

VALID_FROM, VALID_TO = "_valid_from", "_valid_to"
_BY_NAME = {signature.partition("(")[0] for signature, traits in TRAITS.items() if not traits.ages}
STEADY = frozenset({*_BY_NAME, KEYS.name, USER_DEFINED})
"""Functions whose values change only when a row enters or leaves their window."""


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """How long after its time a row passes an edge of a window that moves by tiles of `interval_us` (0: with time)."""

    distance_us: int
    interval_us: int

    def passed(self, times: IntArray) -> IntArray:
        """When rows of these times pass it: in tiles, at the beginning of the tile that follows."""
        at = times + self.distance_us
        return at - at % self.interval_us + self.interval_us if self.interval_us else at


def edges_of(window: Window) -> tuple[Edge, Edge]:
    """Where a row enters the window, and where it leaves; of a lifetime, which no row leaves, that is beyond all times."""
    enters = -window.offset_us
    leaves = ENDLESS_US if window.lifetime else enters + window.size_us
    return Edge(enters, window.interval_us), Edge(leaves, window.interval_us)


def check_range(start_us: int, end_us: int, *, owner: str) -> None:
    """Raise unless a range begins before it ends."""
    if start_us >= end_us:
        raise InputError(
            f"{owner}: the range ends {(start_us - end_us) / 1e6:g} s before or when it begins; allowed is start_time before "
            "end_time. Exchange them, or choose a longer range."
        )
