"""What watches endpoints: in the catalog, and among what `penstock plan` shows."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from penstock.app.catalog import catalog
from penstock.app.changing import apply, plan_change
from penstock.app.runtime import plan_of
from penstock.definitions.project import load_project
from penstock.plan.diff import differences
from penstock.plan.watching import guard_text
from penstock.testing.clock import ManualClock
from tests.unit.app.arms import DEFINITIONS, write_project

WATCHED = (
    DEFINITIONS.replace("sticky=card,", "sticky=card, guard=Guard(max_score_shift=0.4),")
    + """
watch = Monitor("watch", endpoint=checkout, windows=[day], segments=["card_id"])
busy = Alert(
    "busy", on=OnMetric(checkout, "alert_rate", above=0.05), to=[Webhook("https://x.example/hook?key=hidden", secret_env="SECRET")]
)
"""
)


@pytest.fixture
def root(tmp_path):
    return write_project(tmp_path, WATCHED)


def test_the_catalog_lists_what_watches(root):
    nodes = catalog(root).nodes
    assert nodes["monitor:watch"].type == "windows of 1d, labels after 1d, by card_id"
    assert "scores shifted by more than 0.4" in nodes["guard:checkout"].description
    assert nodes["alert:busy"].type == "checkout: alert_rate above 0.05"
    assert catalog(root).find("checkout").kind == "endpoint"


def test_the_plan_shows_how_it_changes(root):
    clock = ManualClock(1)
    first = plan_change(load_project(root))
    added = {(c.kind, c.name) for c in first.changes if c.action == "add"}
    assert {("monitor", "watch"), ("guard", "checkout"), ("alert", "busy")} <= added
    assert "hidden" not in json.dumps(first.description)
    apply(first, root, actor="ann", reason="first", clock=clock)
    assert plan_change(load_project(root)).is_empty
    text = WATCHED.replace("above=0.05", "above=0.2").replace("windows=[day]", "windows=[7 * day]")
    write_project(root, text.replace(" guard=Guard(max_score_shift=0.4),", " guard=None,"))
    changes = {(c.action, c.kind, c.name): c.details for c in plan_change(load_project(root)).changes}
    assert changes["change", "monitor", "watch"] == ("rolling changed",)
    assert "above: 0.05 → 0.2" in changes["change", "alert", "busy"]
    assert ("change", "guard", "checkout") in changes
    write_project(root)
    gone = {(c.kind, c.name) for c in plan_change(load_project(root)).changes if c.action == "remove"}
    assert gone == {("monitor", "watch"), ("guard", "checkout"), ("alert", "busy")}


def test_definitions_applied_before_these_were_kept_can_be_compared(root):
    first = plan_change(load_project(root))
    older = {
        name: value for name, value in first.description.items() if not name.startswith(("mon", "gua", "ale"))
    }
    assert {c.kind for c in differences(older, first.description)} == {"monitor", "guard", "alert"}


def test_a_guard_is_told_in_words(root):
    endpoint = load_project(root).endpoints["checkout"]
    assert guard_text(endpoint).startswith("failures above 1.0%, calls longer than 5 ms")
    assert plan_of(load_project(root)).endpoints["checkout"].name == "checkout"
    assert timedelta(days=1) in load_project(root).monitors["watch"].windows
