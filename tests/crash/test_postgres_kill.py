"""kill -9 of the whole engine over PostgreSQL: nothing lost, nothing double, state exact; see test_engine_kill."""

from __future__ import annotations

import random

import pytest

from tests.crash.nursery import Nursery
from tests.crash.test_engine_kill import stories


@pytest.fixture
def nursery():
    started = Nursery("tests.crash.killed_engine")
    yield started
    started.close()


@pytest.fixture
def settle(postgres_home):
    """Lets a project keep its log in PostgreSQL; each folder in a schema of its own."""
    shards = []

    def settled(root):
        root.mkdir()
        target = postgres_home.target.shard(root.name)
        shards.append(target)
        url, name = target.url, target.schema
        (root / "penstock.toml").write_text(f'[store]\nurl = "{url}"\nnamespace = "{name}"\n')

    yield settled
    for target in shards:
        postgres_home.outside(f'DROP SCHEMA IF EXISTS "{target.schema}" CASCADE')


def test_kill_9_of_the_engine_over_postgresql(nursery, tmp_path, settle):
    stories(nursery, tmp_path, kills=12, seed=11, durability="process", settle=settle)


@pytest.mark.nightly
@pytest.mark.parametrize("durability", ["power", "process"])
def test_many_kills_of_the_engine_over_postgresql(nursery, tmp_path, settle, durability):
    seed = random.SystemRandom().getrandbits(32)
    stories(nursery, tmp_path, kills=200, seed=seed, durability=durability, settle=settle)
