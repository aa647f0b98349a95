"""SIGTERM to `penstock run`: it ends within seconds, everything taken in is decided, and a second run goes on."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from penstock.app.runtime import store_path
from penstock.cli.exits import ExitCode
from penstock.core.errors import StoreError
from penstock.stores.reader import ProjectReader
from tests.crash.engine_life import PROJECT, Found
from tests.crash.feed import Feed

EVENTS = 20_000
DEADLINE_S = 10


@pytest.fixture
def root(tmp_path):
    """The project, its input as two files, and small micro-batches so that a run takes a while."""
    shutil.copytree(PROJECT, tmp_path / "cards", ignore=shutil.ignore_patterns("__pycache__"))
    feed = Feed(1, EVENTS)
    for source in ("payments", "chargebacks"):
        lines = [unit.line for unit in feed.units if unit.source == source]
        (tmp_path / f"{source}.ndjson").write_bytes(b"\n".join(lines) + b"\n")
    return tmp_path / "cards"


def start(root, *, batch_rows):
    files = [f"{source}={root.parent / source}.ndjson" for source in ("payments", "chargebacks")]
    paths = os.pathsep.join([*sys.path, str(pathlib.Path.cwd())])
    return subprocess.Popen(
        [sys.executable, "-c", "from penstock.cli.main import app; app()", "run", *files, "--json"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths, "PENSTOCK_ENGINE__BATCH_ROWS": str(batch_rows)},
        stdout=subprocess.PIPE,
    )


def wait_until_at_work(root, process):
    """Return when events have been committed."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < 60 and process.poll() is None:
        try:
            with ProjectReader.open_reader(store_path(root)) as reader:
                if reader.next_position > 200:
                    return
        except StoreError:
            pass  # it is still being made
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
    raise AssertionError("the run did not begin, or was over too soon")


def check_drained(root):
    with ProjectReader.open_reader(store_path(root)) as reader:
        found, counters = Found.of(reader), reader.counters()
        assert found.decided.tolist() == found.event_positions.tolist(), "accepted, and not decided"
        assert counters["scored"] == len(found.ids) == len(set(found.ids))
        return len(found.ids), counters


def test_sigterm_drains_and_the_next_run_goes_on(root):
    process = start(root, batch_rows=20)
    wait_until_at_work(root, process)
    begun = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert time.perf_counter() - begun <= DEADLINE_S
    assert process.returncode == ExitCode.INTERRUPTED
    told = json.loads(output)
    scored, _ = check_drained(root)
    feed = Feed(1, EVENTS)
    expected = feed.expected(len(feed.units)).counters
    assert told["interrupted"]
    assert told["scored"] == scored < expected["scored"]

    again = start(root, batch_rows=4096)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    _, counters = check_drained(root)
    assert {name: counters.get(name, 0) for name in expected} == expected
