"""A store in each of its homes, and commits to put in it."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.core.records import Commit, DecisionBatch, EventIds, LogBatch
from penstock.stores.sqlite import ProjectStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "project" / "store.db"


@pytest.fixture
def store(home):
    with home.open() as opened:
        yield opened


@pytest.fixture
def file_store(path):
    with ProjectStore.open(path, durability="process") as opened:
        yield opened


@pytest.fixture
def batch():
    return make_batch


@pytest.fixture
def simple_commit():
    return make_commit


def make_batch(source, positions, payload=None, *, ingest_time_us=7):
    positions = np.asarray(positions, np.int64)
    if payload is None:
        payload = f"{source}:{positions.tolist()}".encode()
    return LogBatch(source, positions, ingest_time_us=ingest_time_us, payload=payload)


def make_commit(start, rows, **more):
    """`rows` events of one source and their decisions, from position `start` on."""
    positions = np.arange(start, start + rows)
    return Commit(
        log=[make_batch("transactions", positions)],
        ids=EventIds(positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15), positions),
        decisions=[DecisionBatch("checkout", positions, payload=f"decided {start}".encode())],
        counters={"received": rows, "scored": rows},
        **more,
    )
