"""A retraining in steps: by the rules of the whole one, and refused where it is not its turn."""

from __future__ import annotations

import httpx
import pytest

from penstock.app import Runtime
from penstock.app.retraining import Retrainer
from penstock.app.retraining_journal import Journal
from penstock.app.retraining_steps import SteppedRetrainer, wait_until_live
from penstock.core.errors import CorruptionError, DeadlineError, InputError, UnreachableError
from penstock.models.triggers import Trigger
from penstock.testing.clock import ManualClock
from tests.unit.app.fraud_shop import Feed, write_project

DAY = 720


@pytest.fixture(autouse=True)
def no_child(monkeypatch):
    """The process that checks a version before it is loaded has tests of its own, and takes a second each time."""
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
    monkeypatch.setattr("penstock.app.training.draw", lambda *_: {})


@pytest.fixture
def runtime(tmp_path):
    with Runtime.open(write_project(tmp_path), clock=ManualClock(1_800_000_000_000_000)) as opened:
        Feed(opened).send(2 * DAY)
        yield opened


def retrainer(runtime, kind=SteppedRetrainer):
    audit, registry = runtime.routes.audit, runtime.registry
    clock = ManualClock(1_800_000_000_000_000)
    return kind(runtime.project, runtime.store, registry=registry, audit=audit, clock=clock)


def journal(runtime):
    return Journal(runtime.routes.audit, "fraud")


def test_the_steps_come_to_what_the_whole_comes_to(runtime):
    steps = retrainer(runtime)
    cut = steps.cut("fraud", why="by hand")
    trained = steps.train("fraud", cut.attempt)
    gated = steps.gate("fraud", cut.attempt, trained.detail["version"])
    assert gated.detail["verdict"] == "pass"
    placed = steps.promote("fraud", cut.attempt, trained.detail["version"], gated.detail["gate"])
    assert placed.detail["outcome"] == "promoted"
    whole = retrainer(runtime, Retrainer).attempt("fraud", Trigger("hand", "by hand"))
    stepped, _ = journal(runtime).attempts()
    assert (stepped.outcome, stepped.position, whole.position) == (
        "promoted",
        cut.detail["position"],
        stepped.position,
    )
    first, second = runtime.registry.versions("fraud")
    assert first.files().manifest.data == second.files().manifest.data, "both were trained on the same rows"
    assert first.manifest().origin == second.manifest().origin
    assert first.manifest().origin.position == cut.detail["position"]


def test_only_the_newest_open_attempt_goes_on(runtime):
    steps = retrainer(runtime)
    first = steps.cut("fraud", why="once").attempt
    second = steps.cut("fraud", why="again").attempt
    with pytest.raises(
        InputError, match=f"allowed is the newest while it has no outcome, and that is {second}"
    ):
        steps.train("fraud", first)
    steps.give_up("fraud", second, why="the disk is away")
    assert journal(runtime).attempts()[-1].outcome == "failed"
    with pytest.raises(InputError, match="failed"):
        steps.train("fraud", second)


def test_a_report_of_another_digest_promotes_nothing(runtime):
    steps = retrainer(runtime)
    cut = steps.cut("fraud", why="once")
    version = steps.train("fraud", cut.attempt).detail["version"]
    digest = steps.gate("fraud", cut.attempt, version).detail["gate"]
    other = digest[:16] + "0" * (len(digest) - 16)
    with pytest.raises(CorruptionError, match="is not the one of digest"):
        steps.promote("fraud", cut.attempt, version, other)
    assert all(found.stage != "Production" for found in runtime.registry.versions("fraud"))


def answering(monkeypatch, arms):
    def get(url, **_):
        body = {"items": [{"name": "checkout", "arms": arms}]}
        return httpx.Response(200, json=body, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)


def test_waiting_until_a_version_decides(monkeypatch):
    answering(monkeypatch, [{"arm": "champion", "version": "fraud:2", "serving": "fraud:2"}])
    assert wait_until_live("http://here", "fraud:2", seconds=0) == ["checkout/champion"]
    answering(monkeypatch, [{"arm": "champion", "version": "fraud:2", "serving": "fraud:1"}])
    with pytest.raises(DeadlineError, match="it should be in checkout/champion"):
        wait_until_live("http://here", "fraud:2", seconds=0)
    with pytest.raises(DeadlineError, match="no arm of any endpoint"):
        wait_until_live("http://here", "fraud:3", seconds=0)


def test_waiting_for_nobody():
    with pytest.raises(UnreachableError, match="does not answer"):
        wait_until_live("http://127.0.0.1:9", "fraud:2", seconds=0)
