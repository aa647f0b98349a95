"""DuckDB's ASOF LEFT JOIN over Arrow tables.

Usage: asof.py EVENTS PROFILES OUTPUT (all cores, as DuckDB comes)
"""

import duckdb
from asof_work import contend

QUERY = """
    SELECT events.event_id, profiles.* EXCLUDE (user_id, changed)
    FROM events ASOF LEFT JOIN profiles ON events.user_id = profiles.user_id AND events.time >= profiles.changed
"""


def compute(events, profiles):
    """Each event with its features."""
    db = duckdb.connect()
    db.register("events", events)
    db.register("profiles", profiles)
    return db.execute(QUERY).to_arrow_table()


contend(compute)
