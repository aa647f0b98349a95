"""DuckDB window functions with RANGE frames in microseconds; partitions and orders are shared by all windows of a key.

Usage: wide.py INPUT OUTPUT common|all (all cores, as DuckDB comes)
"""

import duckdb
from wide_work import ENTITIES, MINUTES, PREVIOUS, contend

SQL = {
    "count": "count(*)",
    "sum": "sum(amount)",
    "mean": "avg(amount)",
    "min": "min(amount)",
    "max": "max(amount)",
    "std": "stddev_samp(amount)",
}


def column(name):
    """A feature as an expression over its window."""
    entity, function, *window = name.split("_")
    over = f"OVER {entity}_{window[0]}" if window else f"OVER {entity}_all"
    if function == "previous":
        size = MINUTES[PREVIOUS] * 60_000_000
        return f"CASE WHEN t - lag(t) {over} < {size} THEN lag(amount) {over} END AS {name}"
    if function == "distinct":
        return f"count(DISTINCT {ENTITIES[entity]}) {over} AS {name}"
    return f"{SQL[function]} {over} AS {name}"


def windows(entity):
    """The windows (t - size, t]; RANGE is closed at both ends, hence one microsecond less."""
    key = f"PARTITION BY {entity}_id ORDER BY t"
    sizes = {name: minutes * 60_000_000 - 1 for name, minutes in MINUTES.items()}
    ranges = (
        f"{entity}_{name} AS ({key} RANGE BETWEEN {us} PRECEDING AND CURRENT ROW)"
        for name, us in sizes.items()
    )
    return [f"{entity}_all AS ({key})", *ranges]


def compute(table, names):
    """The features, in the order of the table."""
    db = duckdb.connect()
    db.register("source", table)
    columns = ", ".join(map(column, names))
    over = ", ".join(window for entity in ENTITIES for window in windows(entity))
    query = f'WITH payments AS (SELECT *, epoch_us("timestamp") AS t FROM source) SELECT {columns} FROM payments WINDOW {over} ORDER BY t'
    return db.sql(query).to_arrow_table()  # an `execute` would copy the rows once more


contend(compute)
