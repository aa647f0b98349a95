"""The table of aggregates, made from the code: ``python -m penstock.app.aggregate_table > docs/aggregates.md``."""

from __future__ import annotations

import sys

from penstock.core.types import ALL_TYPES
from penstock.definitions.aggregate_functions import TRAITS, FunctionTraits

_PAGE = """# Aggregates

<!-- Made by `python -m penstock.app.aggregate_table > docs/aggregates.md`; a test checks that it is current. -->

`Aggregate(column, function, time_window=...)` is one function of one column over one window, for the key of its view. A plain
name stands for the functions without a parameter; the others come from `penstock.aggregation_functions`.

Nulls are skipped, and so are rows whose `where=` column is not true. A float that is not finite counts as null, and so does a
result that is not finite. What each value is to the bit, `penstock.testing.reference` says.

{table}

A function of several values, and any other over a `TimeWindowSeries`, gives an `Array` of `penstock.types`: a list column of Arrow, pandas and Polars
frames. Models and realtime views take features of one value only; `lag(1)`, `lag(2)`, … are such.

*number*: Int32, Int64, Float32, Float64. *Cost* is that of an event in order, amortised; the window's length plays no other part. After a
late event `min`, `max` and the functions that say `log rows` look at the whole window again.

## Windows

| window | holds, for an event at t | default name |
|---|---|---|
| `timedelta(hours=1)`, `TimeWindow(size)` | `(t - size, t]` | `amount_sum_1h_continuous` |
| `TimeWindow(size, offset)`, offset negative | `(t + offset - size, t + offset]` | `amount_sum_1h_offset_7d_continuous` |
| `TimeWindowSeries(start, size, end, step)` | windows of one size, a step apart, from t + start to t + end: an Array, the earliest first | `amount_sum_1d_series_7d_continuous` |
| `LifetimeWindow()` | everything up to t since the key was first held | `amount_sum_lifetime_continuous` |
| any, with `aggregation_interval=i` | t floored to a multiple of i: `[floor(t) - size, floor(t))` | `amount_sum_1h_5m` |
| any, with `include_current=False` | the same without the event itself; earlier rows of its time stay | `amount_sum_1h_excluding_current_continuous` |

`aggregation_interval` of a view holds for those of its aggregates that name none; `aggregation_interval=timedelta(0)` on one
of them lets it slide, so sliding and tiled windows stand side by side. A tiled window's size and offset are multiples of its interval.

A lifetime window keeps no rows: what is older than the other windows reach is summed up. A key that leaves because
`max_keys` are held starts a new life when it returns. See [ADR 0011](adr/0011-kinds-of-windows.md), and
[ADR 0012](adr/0012-functions-beyond-sums.md) for what the functions are to the bit.
"""


def aggregate_page() -> str:
    """The page."""
    return _PAGE.format(table="\n".join(_lines()))


def _lines() -> list[str]:
    head = ["function", "gives", "of types", "type", "empty window", "exactness", "cost", "lifetime"]
    return [_row(head), _row(["---"] * len(head)), *(_row(_cells(n, t)) for n, t in TRAITS.items())]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(name: str, traits: FunctionTraits) -> list[str]:
    return [
        f"`{name}`",
        traits.meaning,
        _taken(traits),
        _GIVES.get(traits.gives, traits.gives),
        traits.empty,
        traits.exactness,
        traits.cost,
        "yes" if traits.lifetime else "no",
    ]


_GIVES = {"same": "the column's", "sum": "Int64, of floats Float64", "array": "Array of the column's"}


def _taken(traits: FunctionTraits) -> str:
    kinds = {dtype.kind for dtype in ALL_TYPES}
    if traits.takes >= kinds:
        return "any"
    names = {"bool": "Bool", "time": "Timestamp", "text": "String"}
    return ", ".join(["number", *(names[kind] for kind in names if kind in traits.takes)])


if __name__ == "__main__":
    sys.stdout.write(aggregate_page())
