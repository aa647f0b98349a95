"""A feature is added while thousands of events a second flow: none is lost, and it has its full history."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import pytest

from penstock.app import Runtime
from penstock.app.changing import apply, ensure_applied, plan_change
from penstock.app.inputs import given_inputs
from penstock.app.running import Runner
from penstock.definitions.project import load_project
from tests.unit.app.test_changing import AFTER, BEFORE, state_bytes, write

START_US = 1_767_225_600_000_000
RATE, EVENTS, APPLIED_AT = 10_000, 40_000, 15_000
SLICE = 500


def lines(first, last):
    return b"".join(
        json.dumps(
            {
                "id": f"e{i}",
                "card_id": f"c{i % 700}",
                "shop_id": f"s{i % 50}",
                "at": START_US + i * 100_000,
                "amount": i % 97 + 0.1,
            }
        ).encode()
        + b"\n"
        for i in range(first, last)
    )


@pytest.fixture
def roots(tmp_path):
    for name in ("changed", "from_the_start"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "penstock.toml").write_text("[engine]\ndurability = 'process'\n")
    return tmp_path / "changed", tmp_path / "from_the_start"


def test_a_feature_added_to_a_running_stream_is_as_if_it_had_always_been_there(roots):
    changed, whole = roots
    stream = changed / "payments.ndjson"
    stream.touch()
    write(changed, BEFORE)
    ensure_applied(load_project(changed), actor="ann")
    stop, paused = Event(), Event()
    taken = []

    def feed():
        with stream.open("ab") as file:
            for first in range(0, EVENTS, SLICE):
                file.write(lines(first, first + SLICE))
                file.flush()
                if first == APPLIED_AT:
                    write(changed, AFTER)
                    apply(plan_change(load_project(changed)), changed, actor="ann", reason="test")
                paused.wait(SLICE / RATE)

    with Runtime.open(changed) as runtime:

        def watch(summary):
            if "more" in runtime.plan.services and not taken:
                taken.append(runtime.engine.position)
            if taken and summary.received == EVENTS:
                stop.set()

        inputs = given_inputs({"payments": stream}, runtime.plan.sources, root=changed)
        writer = Thread(target=feed)
        writer.start()
        summary = Runner(runtime, inputs, stop=stop, watch=watch).follow(poll_s=0.01)
        writer.join()
        assert (summary.received, summary.logged) == (EVENTS, EVENTS)
        assert APPLIED_AT < taken[0] < EVENTS, "it was taken over while events flowed"
        found = state_bytes(runtime)
        asked = {"shop_id": "s3"}
        at = datetime.fromtimestamp(START_US / 1e6, UTC) + timedelta(hours=1)
        frames = [served(runtime, asked, at)]
    write(whole, AFTER)
    with Runtime.open(whole) as runtime:
        for first in range(0, EVENTS, 10_000):
            runtime.ingest("payments", lines(first, first + 10_000))
        assert state_bytes(runtime) == found
        assert [served(runtime, asked, at)] == frames


def served(runtime, asked, at):
    """Features of the new view for a key, as of a time, from the log."""
    view = runtime.project.views["shops"]
    return view.get_features_for_events([{**asked, "at": at}], timestamp_key="at").to_arrow().to_pylist()
