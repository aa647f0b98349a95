"""kill -9 of an export, again and again until it is through: no row of a table is lost, none is there twice."""

from __future__ import annotations

import random

import pytest

from penstock.app.offline import status, store_of, sync
from tests.crash.nursery import Nursery
from tests.unit.app.offline_project import fill, project, steps


@pytest.fixture
def nursery():
    started = Nursery("tests.crash.killed_exporter")
    yield started
    started.close()


@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.nightly)])
def test_kills_neither_double_nor_lose(tmp_path, nursery, seed):
    chance = random.Random(seed)
    batches = steps(seed)
    whole = fill(project(tmp_path / "whole"), batches)
    sync(whole)
    root = fill(project(tmp_path / "killed", "[offline]\nblock_rows = 4\ncompact_files = 16\n"), batches)
    lives = 0
    while not is_complete(root, whole):
        nursery.kill_one(root, delay=chance.uniform(0, 0.15), since=chance.choice(["start", "commit"]))
        lives += 1
    assert lives > 3, "it must have been killed"
    expected, found = content(whole), content(root)
    assert expected.keys() == found.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name
    assert sync(root).rows == {}


def is_complete(root, whole):
    rows = {t.name: t.rows for t in status(whole).tables}
    return {t.name: t.rows for t in status(root).tables} == rows


def content(root):
    store, position = store_of(root)
    return {name: store.table(name).read(0, position) for name in store.names()}
