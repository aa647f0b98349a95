"""What a program is made of: kinds of lanes, functions, windows, aggregates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from penstock.core.errors import DefinitionError

MAX_SPAN_US = 2**61


class LaneKind(IntEnum):
    """What the 64 bits of a lane mean: a float64, an int64, or the code of an interned text."""

    FLOAT = 0
    INT = 1
    CODE = 2


class Function(IntEnum):
    """The aggregate functions; those of EXTENDED need the extension, the others are the core."""

    COUNT = 0
    SUM = 1
    MEAN = 2
    MIN = 3
    MAX = 4
    STDDEV_SAMP = 5
    STDDEV_POP = 6
    VAR_SAMP = 7
    VAR_POP = 8
    LAST = 9
    COUNT_DISTINCT = 10
    TIME_SINCE_LAST = 11
    TIME_SINCE_FIRST = 12
    LAG = 13
    FIRST_N = 14
    LAST_N = 15
    FIRST_DISTINCT = 16
    LAST_DISTINCT = 17
    MEDIAN = 18
    MODE = 19
    ENTROPY = 20
    SLOPE = 21
    EWMA = 22
    DECAYED_SUM = 23
    DECAYED_COUNT = 24
    LATEST = 25


EXTENDED = frozenset(f for f in Function if Function.TIME_SINCE_LAST < f < Function.LATEST)
TEXT_FUNCTIONS = frozenset(
    {
        Function.COUNT,
        Function.LAST,
        Function.COUNT_DISTINCT,
        Function.TIME_SINCE_LAST,
        Function.TIME_SINCE_FIRST,
        Function.LAG,
        Function.FIRST_N,
        Function.LAST_N,
        Function.FIRST_DISTINCT,
        Function.LAST_DISTINCT,
        Function.MODE,
        Function.ENTROPY,
        Function.DECAYED_COUNT,
        Function.LATEST,
    }
)
SEVERAL = frozenset({Function.FIRST_N, Function.LAST_N, Function.FIRST_DISTINCT, Function.LAST_DISTINCT})
"""Functions of up to n values, with an output for each."""
COUNTS = frozenset({Function.COUNT, Function.COUNT_DISTINCT})
KEEPS_KIND = SEVERAL | {
    Function.SUM,
    Function.MIN,
    Function.MAX,
    Function.LAST,
    Function.LAG,
    Function.MODE,
    Function.LATEST,
}
OF_OTHERS = frozenset({Function.TIME_SINCE_LAST, Function.TIME_SINCE_FIRST, Function.LAG})
"""What looks at the rows before the asking one only."""


@dataclass(frozen=True, slots=True)
class Window:
    """The rows with ``t + offset - size < time <= t + offset``, in microseconds; the offset is never positive.

    Parameters
    ----------
    interval_us
        Above 0 the window moves by tiles: t is floored to a multiple, and the upper edge is outside.
    current
        Whether the asking row is in the window where its time is.
    lifetime
        Without a lower edge; size and offset are 0.
    """

    size_us: int
    offset_us: int = 0
    interval_us: int = 0
    current: bool = True
    lifetime: bool = False

    def __post_init__(self) -> None:
        span = self.size_us - self.offset_us + self.interval_us
        sized = self.size_us > 0 or (self.lifetime and self.size_us == 0 and self.offset_us == 0)
        if not sized or self.offset_us > 0 or self.interval_us < 0 or span > MAX_SPAN_US:
            raise DefinitionError(
                f"window: size {self.size_us} µs, offset {self.offset_us} µs, interval {self.interval_us} µs found; a "
                f"size above 0 (a lifetime's is 0), an offset of 0 or below and an interval of 0 or above are allowed, "
                f"{MAX_SPAN_US} µs together. Give a positive size."
            )

    @property
    def of_core(self) -> bool:
        """Whether the core knows such windows: sliding, of finite length, with the asking row."""
        return not self.lifetime and not self.interval_us and self.current

    @property
    def holds_asking(self) -> bool:
        """Whether the asking row is in it."""
        return self.current and not self.offset_us and not self.interval_us

    @property
    def span_us(self) -> int:
        """How far behind a row's time the rows lie that the row sees; what is older has left."""
        if self.lifetime:
            return max(self.interval_us, 1)
        return self.size_us - self.offset_us + self.interval_us


@dataclass(frozen=True, slots=True)
class AggregateSpec:
    """One function of one lane over one window; lane and window are indices into the program's.

    `parameter` is the function's n, or its half-life in microseconds.
    """

    function: Function
    lane: int
    window: int
    parameter: int = 0

    @property
    def width(self) -> int:
        """How many outputs it has."""
        return self.parameter if self.function in SEVERAL else 1
