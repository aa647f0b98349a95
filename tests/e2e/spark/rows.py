"""The rows of the Spark tests: a stream with late, repeated and labelled events, beside another."""

from __future__ import annotations

from functools import cache
from random import Random

import pyarrow as pa

from penstock.engine.frames import arrow_type
from penstock.plan.compile import source_node
from penstock.testing import streams
from tests.e2e.spark import definitions as project
from tests.laws.test_engine_parity import WINDOWS_US

FILES = 4
SOURCES = (project.payments, project.logins, project.chargebacks)


@cache
def tables():
    """By source its rows."""
    random = Random(11)
    paid = streams.events(random, 300, source=project.payments, windows_us=WINDOWS_US)
    seen = streams.events(random, 120, source=project.logins, windows_us=WINDOWS_US)
    labelled = streams.labelled(random, paid, labels=project.chargebacks, delay_us=60_000_000)
    steps = list(streams.interleaved(random, labelled, seen))
    return {source.name: _table(steps, source) for source in SOURCES}


def asked():
    """Events of the history, some of them twice, and others that it does not hold, in no order."""
    rows = tables()["payments"].to_pylist()
    strangers = [{**row, "id": f"stranger{i}"} for i, row in enumerate(rows[::3])]
    mixed = [*rows[::2], *strangers, *rows[::5]]
    Random(3).shuffle(mixed)
    return pa.Table.from_pylist(mixed, schema=tables()["payments"].schema)


def streamed():
    """Per source its events, each once, in files: what each micro-batch takes."""
    payments = tables()["payments"]
    first = {row["id"]: row for row in reversed(payments.to_pylist())}
    paid = [row for row in payments.to_pylist() if first.pop(row["id"], None) is not None]
    return {
        "payments": cut(pa.Table.from_pylist(paid, schema=payments.schema)),
        "logins": cut(tables()["logins"]),
    }


def conflict():
    """Events of which the last has the id of another, and other values."""
    rows = tables()["payments"].slice(0, 5).to_pylist()
    return pa.Table.from_pylist([*rows, {**rows[1], "shop_id": 77}], schema=tables()["payments"].schema)


def cut(table):
    """A table in `FILES` parts."""
    rows = -(-table.num_rows // FILES)
    return [table.slice(i * rows, rows) for i in range(FILES)]


def _table(steps, source):
    schema = pa.schema([(f.name, arrow_type(f.dtype)) for f in source_node(source).fields])
    records = [{k: finite(v) for k, v in step.record.items()} for step in steps if step.source == source.name]
    return pa.Table.from_pylist(records, schema=schema)


def finite(value):
    """The value, or null where Parquet's readers would not take it."""
    return None if isinstance(value, float) and value - value != 0 else value
