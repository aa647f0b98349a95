"""Polars `rolling_*_by` over each key; a delayed window is a longer one less the delay.

Usage: backfill.py INPUT OUTPUT (all cores, as Polars comes)
"""

import polars as pl
from backfill_work import DAYS, DELAY_DAYS, FEATURES, contend


def hours(days):
    """A window's size; days would follow the calendar."""
    return f"{24 * days}h"


def customer(days):
    """Count and mean amount over (t - days, t]."""
    size = hours(days)
    count = pl.col("one").rolling_sum_by("timestamp", size).over("customer_id")
    mean = pl.col("amount").rolling_mean_by("timestamp", size).over("customer_id")
    return count.alias(f"customer_count_{days}d"), mean.alias(f"customer_mean_{days}d")


def terminal_sum(column, days):
    """Sum of a column over (t - days, t] by terminal."""
    return (
        pl.col(column).rolling_sum_by("timestamp", hours(days)).over("terminal_id").alias(f"{column}_{days}d")
    )


def delayed(column, days):
    """Sum over (t - delay - days, t - delay]."""
    return pl.col(f"{column}_{days + DELAY_DAYS}d") - pl.col(f"{column}_{DELAY_DAYS}d")


def compute(table):
    """The 12 features."""
    frame = pl.from_arrow(table).with_columns(one=pl.lit(1), fraud=pl.col("is_fraud").cast(pl.Int64))
    sizes = (DELAY_DAYS, *(days + DELAY_DAYS for days in DAYS))
    frame = frame.with_columns(
        *(expression for days in DAYS for expression in customer(days)),
        *(terminal_sum(column, days) for column in ("one", "fraud") for days in sizes),
    )
    counts = (delayed("one", days).alias(f"terminal_count_{days}d") for days in DAYS)
    shares = (
        (delayed("fraud", days) / delayed("one", days)).alias(f"terminal_share_{days}d") for days in DAYS
    )
    return frame.select(*counts, *shares, "^customer_.*_.*$").select(FEATURES).to_arrow()


contend(compute)
