"""What a run says of itself in log lines."""

import json
from collections import Counter

import pytest

from penstock.app.logs import logging_as
from penstock.app.run_log import RunLog
from penstock.app.runtime import audit_log_of
from penstock.app.settings import LogSettings
from tests.unit.app.observed import serve
from tests.unit.app.shop import CLOCK, open_project, payments, write_project


@pytest.fixture
def running(tmp_path, capsys):
    """An open project, its log, and the lines since the last time they were asked for."""
    with (
        open_project(write_project(tmp_path)) as runtime,
        logging_as(LogSettings(format="json")),
    ):
        yield (
            runtime,
            RunLog(runtime, every_s=60),
            lambda: [json.loads(x) for x in capsys.readouterr().err.splitlines()],
        )


def test_a_run_starts_and_drains(running):
    runtime, log, lines = running
    serve(runtime)
    with log:
        runtime.ingest("payments", payments(5))
    started, drained = lines()
    assert (started["event"], started["project"]) == ("started", "shop")
    assert started["serving"] == {"endpoint/champion": "model:1"}
    assert (drained["event"], drained["new_rows"], drained["log_rows"]) == ("drained", 5, 5)


def test_an_error_is_told(running):
    _, log, lines = running
    with pytest.raises(OSError, match="full"), log:
        raise OSError("disk full")
    assert [line["event"] for line in lines()] == ["started", "stopped"]


def test_routes_and_problems_are_told_once(running):
    runtime, log, lines = running
    with log:
        lines()
        serve(runtime, "model:2")
        runtime.problems["offline"] = "export failed"
        log.look()
        log.look()
        problem, route = lines()
        assert (problem["event"], problem["level"], problem["what"]) == ("problem", "warning", "offline")
        assert (route["event"], route["version"], route["before"]) == ("route changed", "model:2", None)
        serve(runtime, "model:2+12800")
        del runtime.problems["offline"]
        log.look()
        assert [line["event"] for line in lines()] == ["problem solved"]


def test_retraining_is_told(running):
    runtime, log, lines = running
    with log:
        lines()
        audit = audit_log_of(runtime.project.root, clock=CLOCK)
        begin = {"event": "begin", "trigger": "labels", "position": 3}
        row = audit.append("retraining", "model", begin, actor="t", reason="500 new labels")
        audit.append("key.create", "x", {}, actor="t", reason="t")
        log.look()
        [started] = lines()
        assert (started["event"], started["model"], started["why"]) == (
            "retraining started",
            "model",
            "500 new labels",
        )
        end = {"event": "end", "attempt": row.sequence, "outcome": "failed"}
        audit.append("retraining", "model", end, actor="t", reason="no frauds")
        log.look()
        log.look()
        [ended] = lines()
        assert (ended["event"], ended["level"], ended["outcome"]) == ("retraining ended", "error", "failed")


def test_alerts_are_told(running):
    _, log, lines = running

    class Alerts:
        def __init__(self):
            self.counts = Counter({("big", "sent"): 2})

        def outcomes(self):
            return self.counts

    with log:
        lines()
        log.alerts = alerts = Alerts()
        log.look()
        alerts.counts = alerts.counts + Counter({("big", "dead"): 1})
        log.look()
        assert [(x["event"], x["alert"], x["count"]) for x in lines()] == [
            ("alert sent", "big", 2),
            ("alert dead", "big", 1),
        ]
