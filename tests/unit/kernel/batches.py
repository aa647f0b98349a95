"""Batches of one float lane, for the kernel's unit tests."""

from __future__ import annotations

import numpy as np

from penstock.kernel.columns import Text
from penstock.kernel.program import AggregateSpec, Function, LaneKind, Program, Window
from penstock.kernel.state import Op


def program_of(*functions, sizes=(100,), kind=LaneKind.FLOAT, **options):
    specs = [AggregateSpec(f, 0, w) for w in range(len(sizes)) for f in functions]
    return Program((kind,), tuple(Window(s) for s in sizes), tuple(specs), **options)


def batch(keys, times, values, op=Op.APPLY):
    dtype = np.int64 if all(isinstance(v, int) for v in values) else np.float64
    lanes = np.array(values, dtype).view(np.int64).reshape(-1, 1)
    valid = np.ones((len(values), 1), np.bool_)
    return Text.from_strings(keys), np.array(times, np.int64), lanes, valid, np.full(len(keys), op, np.uint8)


SUM_COUNT = (Function.SUM, Function.COUNT)
