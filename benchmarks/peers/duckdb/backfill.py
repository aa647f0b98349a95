"""DuckDB window functions with RANGE frames in microseconds.

Usage: backfill.py INPUT OUTPUT (all cores, as DuckDB comes)
"""

import duckdb
from backfill_work import DAYS, DELAY_DAYS, contend

DAY_US = 86_400_000_000


def window(name, key, *, days, delay_days=0):
    """A named window (t - delay - days, t - delay]; RANGE is closed at both ends, hence one microsecond less."""
    first, last = (days + delay_days) * DAY_US - 1, delay_days * DAY_US
    end = f"{last} PRECEDING" if last else "CURRENT ROW"
    return f"{name} AS (PARTITION BY {key} ORDER BY t RANGE BETWEEN {first} PRECEDING AND {end})"


columns = [
    *(
        f"count(*) OVER c{d} AS customer_count_{d}d, avg(amount) OVER c{d} AS customer_mean_{d}d"
        for d in DAYS
    ),
    *(
        f"count(*) OVER t{d} AS terminal_count_{d}d, avg(fraud) OVER t{d} AS terminal_share_{d}d"
        for d in DAYS
    ),
]
windows = [
    *(window(f"c{d}", "customer_id", days=d) for d in DAYS),
    *(window(f"t{d}", "terminal_id", days=d, delay_days=DELAY_DAYS) for d in DAYS),
]
QUERY = f"""
    WITH payments AS (SELECT *, epoch_us("timestamp") AS t, is_fraud::INT AS fraud FROM source)
    SELECT {", ".join(columns)} FROM payments WINDOW {", ".join(windows)} ORDER BY t
"""


def compute(table):
    """The 12 features."""
    db = duckdb.connect()
    db.register("source", table)
    return db.execute(QUERY).to_arrow_table()


contend(compute)
