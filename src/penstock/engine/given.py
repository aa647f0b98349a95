"""Features that come with the events: a stage of workers computes those of its entity, and the next ones take them as they are.

They are columns of the logged events beside those of the source, each of its own type, so that no bit changes on the way and replay needs nothing
else. How late an event was for the views of the stages before, and whether a function failed on it, stands beside them.
"""

from __future__ import annotations

import numpy as np

from penstock.core.types import Field
from penstock.engine.assembly import FeatureRows
from penstock.engine.values import nulls
from penstock.kernel.columns import Column, Columns, Numeric, Text
from penstock.kernel.jit import ByteArray
from penstock.kernel.state import Output, Taken
from penstock.plan.nodes import Lookup, ServiceNode, SourceNode, ViewNode
from penstock.plan.stages import given_name

LATENESS, FAILED = "_given.lateness", "_given.failed"


def with_given(columns: Columns, service: ServiceNode, features: FeatureRows) -> Columns:
    """The events with the features of `service`, which are exact, beside what stages before have computed."""
    found: dict[str, Column] = {
        output.name: features.columns[at] for at, output in enumerate(service.outputs)
    }
    lateness, failed = features.lateness, features.degraded
    if FAILED in columns:
        before, failed_before = _lateness(columns)
        lateness, failed = np.maximum(lateness, before), failed | failed_before
    found[LATENESS] = Numeric(lateness.astype(np.int64))
    found[FAILED] = Numeric(failed)
    return columns.with_columns(found)


def completed(columns: Columns, source: SourceNode) -> Columns:
    """Events with all features that `source` is given, and no others: null, and failed, where other definitions were in force."""
    if not source.given:
        return columns
    names = dict(source.given)
    own = {n: c for n, c in columns.columns.items() if not n.startswith("_given.")}
    found = {n: columns[n] for n in names if n in columns}
    if len(found) < len(names) or FAILED not in columns:
        count = columns.length
        found = {n: found.get(n) or nulls(Field("given", t, optional=True), count) for n, t in names.items()}
        found |= {LATENESS: Numeric(np.zeros(count, np.int64)), FAILED: Numeric(np.ones(count, np.bool_))}
    else:
        found |= {LATENESS: columns[LATENESS], FAILED: columns[FAILED]}
    return Columns(columns.length, own | found)


def given_output(view: ViewNode, lookup: Lookup, columns: Columns) -> Output:
    """What a look-up of `view` emitted where it was computed, from events that are `completed`."""
    shape = columns.length, len(view.output_kinds)
    bits, valid = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    apart: dict[int, Taken] = {}
    for node in view.aggregates:
        column = columns.columns.get(given_name(view, lookup, node.name))
        if isinstance(column, Text):
            apart[node.output] = column
        elif column is not None:
            values = column.values
            bits[:, node.output] = values.view(np.int64) if values.dtype.kind == "f" else values
            valid[:, node.output] = True if column.valid is None else column.valid
    lateness, failed = _lateness(columns)
    return Output(bits, valid, lateness, apart or None, failed if failed.any() else None)


def _lateness(columns: Columns) -> tuple[ByteArray, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    lateness, failed = columns[LATENESS], columns[FAILED]
    assert isinstance(lateness, Numeric) and isinstance(failed, Numeric)  # noqa: PT018
    return lateness.values.astype(np.uint8), failed.values.astype(np.bool_)
