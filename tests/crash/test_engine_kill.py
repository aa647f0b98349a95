"""kill -9 of the whole engine, again and again until the input is through: nothing lost, nothing double, state exact."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest

from penstock.app.runtime import open_reader, state_folder, store_path
from penstock.app.settings import load_settings
from penstock.app.storing import has_run
from penstock.core.errors import PenstockError
from penstock.engine.decisions import Flag
from tests.crash.engine_life import (
    Found,
    check_again,
    check_state,
    check_store,
    live,
    open_runtime,
    run_through,
)
from tests.crash.feed import Feed
from tests.crash.nursery import Nursery

EVENTS = 1000


@pytest.fixture
def nursery():
    started = Nursery("tests.crash.killed_engine")
    yield started
    started.close()


def damage(root, chance):
    """Truncate, flip or remove some of what lies beside the store; returns the snapshots that can be no good now."""
    folder = state_folder(root)
    files = [path for path in (*folder.glob("snapshots/*"), *folder.glob("ids/**/*")) if path.is_file()]
    spoilt = []
    for path in sorted(files, reverse=True):
        if chance.random() < 0.5:
            continue
        data = bytearray(path.read_bytes())
        at = chance.randrange(len(data)) if data else 0
        if chance.random() < 0.5:
            del data[at:]
        elif data:
            data[at] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        if path.suffix == ".snapshot":
            spoilt.append(path.name)
    return spoilt


def check_reader(root, feed, whole, acknowledged):
    """What another process sees, before anyone recovers."""
    if not was_created(root):
        assert not acknowledged
        return 0
    with open_reader(root) as reader:
        stop = check_store(reader, feed, whole)
    assert stop >= (acknowledged or 0), f"{acknowledged} units were acknowledged, {stop} are there"
    return stop


def was_created(root):
    """Whether the store got as far as to have tables."""
    if load_settings(root).store.url is not None:
        return has_run(root)
    if not store_path(root).exists():
        return False
    with closing(sqlite3.connect(f"{store_path(root).as_uri()}?mode=ro", uri=True)) as outside:
        return outside.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] > 0


def check_recovery(root, feed, whole, spoilt):
    """The state after recovery, in whichever way it came about."""
    runtime = open_runtime(root, feed)
    reasons = [reason.partition(":") for reason in runtime.skipped_snapshots]
    assert all("damaged" in reason for _, _, reason in reasons), reasons
    assert {name for name, _, _ in reasons} <= set(spoilt)
    check_state(runtime)
    runtime.close(snapshot=False)
    return len(reasons)


def story(nursery, tmp_path, *, seed, durability, most_kills, settle=lambda root: None):
    """One feed from its beginning to its end, killed on the way; returns the kills and the snapshots skipped."""
    chance = random.Random(seed)
    feed = Feed(chance.getrandbits(20), EVENTS)
    whole = run_through(tmp_path / f"whole-{seed}", feed, chance)
    root = tmp_path / f"killed-{seed}"
    settle(root)
    kills = skipped = acknowledged = 0
    spoilt: list[str] = []
    try:
        while kills < most_kills:
            since = chance.choice(("start", "commit"))
            ended = nursery.kill_one(
                root, feed.seed, EVENTS, chance.getrandbits(32), durability,
                delay=chance.uniform(0, 0.1), since=since,
            )  # fmt: skip
            acknowledged = max(acknowledged, ended or 0)
            if check_reader(root, feed, whole, acknowledged) == len(feed.units):
                break
            kills += 1
            if root.exists() and chance.random() < 0.4:
                spoilt += damage(root, chance)
            if root.exists() and chance.random() < 0.4:
                skipped += check_recovery(root, feed, whole, spoilt)
        nursery.kill_one(root, feed.seed, EVENTS, chance.getrandbits(32), durability, delay=60)
        assert check_reader(root, feed, whole, len(feed.units)) == len(feed.units)
        runtime = open_runtime(root, feed)
        check_state(runtime, whole)
        check_again(runtime, feed)
        runtime.close()
    except (AssertionError, PenstockError) as error:
        error.add_note(f"seed {seed}, feed {feed.seed}, kill {kills}, durability {durability}")
        raise
    return kills, skipped


def stories(nursery, tmp_path, *, kills, seed, durability, **more):
    """Stories until there were `kills` of them; returns the number of damaged snapshots that were skipped."""
    done = skipped = 0
    while done < kills:
        found = story(nursery, tmp_path, seed=seed, durability=durability, most_kills=kills - done, **more)
        done, skipped, seed = done + found[0], skipped + found[1], seed + 1
    return skipped


def test_the_feed_holds_everything_that_can_go_wrong(tmp_path):
    feed = Feed(7, EVENTS)
    runtime = open_runtime(tmp_path, feed)
    live(runtime, feed, random.Random(7), lambda stop: None)
    found = Found.of(runtime.store)
    flags, counters = found.flags.astype(int), runtime.store.counters()
    assert (flags & Flag.LATE).any() and (flags & Flag.TOO_LATE).any()  # noqa: PT018
    assert set(found.taken) == {0, 1, 2}, "an action was never taken"
    assert runtime.engine.features.views[0].stats.evicted_keys > 0
    assert runtime._ids.runs > 0, "event ids were never sealed"
    wanted = {
        "duplicate",
        "rejected",
        "labels_early",
        "labels_corrected",
        "labels_repeated",
        "labels_pending",
    }
    assert not wanted - {name for name, count in counters.items() if count}
    assert counters["duplicate"] > 0.07 * counters["received"]
    assert {letter.reason for letter in runtime.store.dead_letters()} > {"in_future", "conflict"}
    runtime.close()


def test_kill_9_of_the_engine(nursery, tmp_path):
    stories(nursery, tmp_path, kills=20, seed=7, durability="power")


@pytest.mark.nightly
@pytest.mark.parametrize("durability", ["power", "process"])
def test_many_kills_of_the_engine(nursery, tmp_path, durability):
    seed = random.SystemRandom().getrandbits(32)
    assert stories(nursery, tmp_path, kills=200, seed=seed, durability=durability) > 0
