"""Polars `rolling` by key: all functions of a window at once, over rows sorted by key and time.

That costs two thirds of `rolling_sum_by(...).over(key)` and its kin, sorted or not, eager or streaming.

Usage: wide.py INPUT OUTPUT common|all (all cores, as Polars comes)
"""

import polars as pl
from wide_work import ENTITIES, MINUTES, PREVIOUS, contend

AMOUNT = pl.col("amount")
EXPRESSIONS = {
    "count": pl.len(),
    "sum": AMOUNT.sum(),
    "mean": AMOUNT.mean(),
    "min": AMOUNT.min(),
    "max": AMOUNT.max(),
    "std": AMOUNT.std(),
}


def expression(entity, function):
    """A function of the window's rows."""
    return pl.col(ENTITIES[entity]).n_unique() if function == "distinct" else EXPRESSIONS[function]


def window(rows, entity, size, names):
    """The features of one window, (t - size, t]."""
    found = [
        expression(entity, name.split("_")[1]).alias(name) for name in names if name.endswith(f"_{size}")
    ]
    key = f"{entity}_id"
    return (
        rows.rolling("timestamp", period=f"{MINUTES[size]}m", group_by=key).agg(found).drop(key, "timestamp")
    )


def previous(entity):
    """The amount of the row before, where it is not too old."""
    key = f"{entity}_id"
    age = pl.col("timestamp") - pl.col("timestamp").shift().over(key)
    recent = age < pl.duration(minutes=MINUTES[PREVIOUS])
    return pl.when(recent).then(AMOUNT.shift().over(key)).alias(f"{entity}_previous")


def features(frame, entity, names):
    """All features of one key, in the order of the frame."""
    own = [name for name in names if name.startswith(f"{entity}_")]
    rows = frame.sort(f"{entity}_id", "timestamp")
    parts = [rows.select("row", previous(entity)), *(window(rows, entity, size, own) for size in MINUTES)]
    return pl.concat(parts, how="horizontal").sort("row").drop("row")


def compute(table, names):
    """The features, in the order of the table."""
    frame = pl.from_arrow(table).with_row_index("row")
    parts = [features(frame, entity, names) for entity in ENTITIES]
    return pl.concat(parts, how="horizontal").to_arrow()


contend(compute)
