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
late event `min`, `max` and the functions that say `log rows` look at the whole window again. `O(rows)` looks at every row of the window for
each event; these functions run in Python, beside the kernel ([ADR 0017](adr/0017-objects-beside-the-kernel.md)).

The sketches come from Apache DataSketches (`pip install "penstock[sketches]"`). Windows keep their rows, so that late and expired ones can be
exact; a sketch saves no memory here, and `count_distinct` and `median` are exact and faster. Sketches are for models that were
trained on them elsewhere.

## An aggregation of your own

```python
from datetime import timedelta

from penstock import Aggregate, UserAggregation
from penstock.types import Field, Float64, Int64


class Spread(UserAggregation):
    name, takes, gives = "spread", (Float64, Int64), Float64

    def init(self):
        return None

    def add(self, state, value):
        low, high = state or (value, value)
        return min(low, value), max(high, value)

    def merge(self, left, right):
        pairs = [state for state in (left, right) if state]
        return (min(low for low, _ in pairs), max(high for _, high in pairs)) if pairs else None

    def value(self, state):
        return None if state is None else state[1] - state[0]


spread = Aggregate(Field("amount", Float64), Spread(), time_window=timedelta(hours=1))
```

Its value is the fold of the window's values, the earliest first: `value(add(... add(init(), v1) ..., vn))`. Without more, that is what is called
for each event. With `merge(left, right)` or `remove(state, value)`, which are optional, the class promises the same bits from partial folds or from
taking the earliest value out again, and an event costs a few calls whatever the window's length. An empty window gives
`value(init())`.

| call | when |
|---|---|
| `init`, `add` for each row, `value` | for each event, of a class with neither `merge` nor `remove`; of any class for a late or too-late event or look-up, and after a restart |
| `remove` for each row that leaves, `add` for each that enters, `value` | for each event in order, where there is `remove` |
| `add` for each row that enters, `merge` once for each row and once for each event, `value` | for each event in order, where there is `merge` alone |
| `init`, `add`, `value` with one value | before an event is accepted: one on which the class fails is rejected |

`value` must not change the state, and `merge` neither of its arguments; `add` and `remove` may change theirs. Where a window as a whole fails, the feature
is null (an Array is empty) and the event is flagged as degraded. The class's code and the attributes of its object are part of the plan's
fingerprint. Lifetimes are refused: they keep no rows.

## Secondary keys

`aggregation_secondary_key="ad_id"` on a view aggregates by its entities and by that column. The key of the request stays that of the entities; each
feature is an Array with a value for each secondary key that has rows in its window, and `ad_id_keys_1d` are those keys, ascending:

| | |
|---|---|
| `ad_id_keys_1d` | `["ad_1", "ad_5"]` |
| `seconds_watched_sum_1d_continuous` | `[7, 31]` |

There is one list of keys for each window: `<column>_keys_<window>`, then `_excluding_current`, or the tile where it is not the view's. All functions of
one value are allowed, over any window but a series; the values are those of a view whose entities have one key more. A key is there for its
rows: where all values are null, or `where=` is not true for any, its value is that of an empty window. Rows whose secondary key is null do
not enter. `max_keys` counts pairs of keys. An event costs a look-up for each secondary key that its key had within the longest window.

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
