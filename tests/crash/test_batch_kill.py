"""kill -9 while a batch table is read, which is written anew in between: every row is in the log once, and the profile is right."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

from penstock.app.runtime import Runtime, store_path
from penstock.core.errors import StoreError
from penstock.engine.logged_history import history_of
from penstock.engine.recovery import catch_up, encode_state
from penstock.stores.reader import ProjectReader

ROWS = 1_500
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Field, Int64, String, Timestamp

user = Entity("user", [Field("user_id", String)])
columns = [Field("user_id", String), Field("changed", Timestamp), Field("age", Int64)]
users = BatchSource("users", FileConfig("users.csv", "csv"), schema=columns)
profile = BatchFeatureView("profile", sources=[users], entities=[user], features=[Attribute("age", Int64)])
logins = StreamSource("logins", PushConfig(), schema=[Field("user_id", String), Field("at", Timestamp)])
seen = StreamFeatureView(
    "seen", source=logins, entities=[user], features=[Aggregate(columns[0], "count", time_window=timedelta(days=1))]
)
service = FeatureService("service", features=[seen, profile])
"""


def rows_of(chance, count):
    """Some of them equal in everything."""
    return [
        (f"u{chance.randrange(40)}", 1_700_000_000 + chance.randrange(count // 2), chance.randrange(100))
        for _ in range(count)
    ]


def write(root, rows):
    lines = "".join(f"{user},{at},{age}\n" for user, at, age in ((u, stamp(t), a) for u, t, a in rows))
    (root / "users.tmp").write_text("user_id,changed,age\n" + lines)
    (root / "users.tmp").rename(root / "users.csv")


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def start(root):
    paths = os.pathsep.join([*sys.path, str(pathlib.Path.cwd())])
    code = "from penstock.cli.main import app; app()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "materialize", "users", "--json"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths, "PENSTOCK_ENGINE__BATCH_ROWS": "20"},
        stdout=subprocess.DEVNULL,
    )


def length(root):
    try:
        with ProjectReader.open_reader(store_path(root)) as reader:
            return reader.next_position
    except StoreError:
        return 0  # it is still being made


def kill_once_at_work(root, chance):
    before, process = length(root), start(root)
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline and process.poll() is None and length(root) == before:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    with suppress(subprocess.TimeoutExpired):
        process.wait(chance.random() * 0.3)
    killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return killed and length(root) > before


def test_each_row_is_taken_once(tmp_path):
    chance = random.Random(5)
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    rows = rows_of(chance, ROWS)
    kills = 0
    for more in (0, 300):
        rows += rows_of(chance, ROWS)[:more]  # in between, not at the end: see the shuffle
        chance.shuffle(rows)
        write(tmp_path, rows)
        kills += kill_once_at_work(tmp_path, chance)
    assert kills
    assert start(tmp_path).wait(120) == 0
    with Runtime.open(tmp_path) as runtime:
        logged = history_of(runtime.store, runtime.plan, sources=["users"])["users"].to_pylist()
        found = sorted((row["user_id"], int(row["changed"].timestamp()), row["age"]) for row in logged)
        assert found == sorted(rows)
        assert runtime.store.counters()["logged"] == len(rows)
        assert encode_state(runtime.engine.features) == encode_state(catch_up(runtime.store, runtime.plan))
