"""A project that serves, and live data pushed to it: what is pushed is decided, counted, shown and logged."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.core.clock import SystemClock
from penstock.core.time import from_us
from tests.unit.app.shop import labels, payments, write_project
from tests.unit.app.test_live_replay import as_lines

EVENTS = 600


def penstock(root, *arguments, **options):
    command = [
        sys.executable,
        "-c",
        "from penstock.cli.main import app; app()",
        *arguments,
        "--project",
        str(root),
    ]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, cwd=root, env=environ, **pipes)


@pytest.fixture
def root(tmp_path):
    write_project(
        tmp_path,
        settings='[log]\naccess = true\n[engine]\ndurability = "process"\n[offline]\nexport = false\n',
    )
    events = payments(EVENTS)
    (tmp_path / "payments.ndjson").write_text(as_lines(events))
    known = sorted(labels(events), key=lambda row: row["known_at"])
    (tmp_path / "frauds.ndjson").write_text(as_lines(known))
    return tmp_path


def address(root, running):
    """Where the API listens, as the engine notes it for other processes."""
    until = time.monotonic() + 120
    notes = root / ".penstock/running.json"
    while time.monotonic() < until and running.poll() is None:
        if notes.exists() and (url := json.loads(notes.read_bytes()).get("url")):
            return url
        time.sleep(0.05)
    raise AssertionError((root / "log").read_text())


def values(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_live_data_is_decided_counted_shown_and_logged(root):
    # To a file: a pipe that nobody reads would fill up, and the server wait.
    with (root / "log").open("wb") as file, penstock(root, "up", "--port", "0", stderr=file) as running:
        try:
            url = address(root, running)
            pushing = penstock(
                root,
                "live-data",
                "payments=payments.ndjson",
                "frauds=frauds.ndjson",
                "--rate",
                "150",
                "--count",
                "450",
                "--json",
            )
            out, err = pushing.communicate(timeout=120)
            assert pushing.returncode == 0, err.decode()
            sent = json.loads(out)
            found = values(httpx.get(f"{url}/metrics").text)
            live = httpx.get(f"{url}/v1/live", params={"step": "minute"}).json()
        finally:
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=60)
    log = (root / "log").read_bytes()
    assert sent["events"] == 450
    assert sent["statuses"] == {"scored": 450, "logged": sent["rows"] - 450}
    assert sent["rows"] > 600
    assert 100 < sent["events_per_s"] <= 155
    assert found["penstock_events_total", ("outcome", "scored"), ("source", "payments")] == 450
    assert found["penstock_events_received_total", ("source", "frauds")] == sent["rows"] - 450
    assert found["penstock_labels_total", ("outcome", "joined")] > 150
    route = "/v1/sources/{source}/events"
    assert (
        found["penstock_http_requests_total", ("method", "POST"), ("route", route), ("status", "2xx")] > 100
    )
    assert 0 <= found["penstock_event_lag_seconds", ("source", "payments")] < 60
    assert sum(live["events"]) == 450
    assert sum(live["labels"]) == sent["rows"] - 450

    lines = [json.loads(line) for line in log.decode().splitlines()]
    told = [line["event"] for line in lines]
    assert told.count("started") == told.count("drained") == 1
    assert told.count("request") > 100
    drained = next(line for line in lines if line["event"] == "drained")
    assert drained["new_rows"] == sent["rows"]
    assert not re.search(rb"amount|card_id|p\d+-[0-9a-f]{6}", log)


def test_live_data_ends_cleanly_when_interrupted(root, tmp_path):
    target = tmp_path / "pushed"
    pushing = penstock(
        root, "live-data", "payments=payments.ndjson", "--to", str(target), "--loop", "--rate", "300"
    )
    until = time.monotonic() + 60
    file = target / "payments.ndjson"
    while time.monotonic() < until and (not file.exists() or file.read_bytes().count(b"\n") < EVENTS + 100):
        time.sleep(0.05)
    pushing.send_signal(signal.SIGINT)
    out, err = pushing.communicate(timeout=20)
    assert pushing.returncode == 130, err.decode()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) > EVENTS
    assert len({row["id"] for row in rows}) == len(rows)
    assert f"{len(rows):,} written" in out.decode()
    newest = from_us(max(row["at"] for row in rows))
    assert abs(from_us(SystemClock().now_us()) - newest) < timedelta(minutes=2)


def test_a_server_that_is_away_is_told(root):
    done = penstock(
        root, "live-data", "payments=payments.ndjson", "--to", "http://127.0.0.1:9", "--seconds", "1"
    )
    assert b"Ctrl-C ends it" in done.stderr.readline()
    time.sleep(2)
    done.send_signal(signal.SIGTERM)
    out, _ = done.communicate(timeout=30)
    assert "unanswered" in out.decode()
    assert "ConnectError" in out.decode()
