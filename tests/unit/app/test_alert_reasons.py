"""Reasons in messages of alerts: of the score that was served, in words, for machines and people; none where a rule decided."""

import json
import math
from dataclasses import replace

import pytest

from penstock.app import Runtime
from penstock.app.alerting import alerting
from penstock.app.reasons import Reasoner, Reasoners
from penstock.core.errors import ArtifactError, DefinitionError, StoreError
from penstock.definitions.project import load_project
from penstock.monitoring.alert_messages import text_of
from tests.unit.app.arms import DEFINITIONS, events, promote, register, write_project
from tests.unit.app.receiver import SECRET, Receiver

pytest.importorskip("httpx")

RULED = """
@realtime_feature_view(sources=[RequestSource([AMOUNT])], features=[Attribute("huge", Bool)])
def limits(request):
    return {"huge": request["amount"] > 85}

checkout = Endpoint(
    "checkout", source=payments, model=model, features=FeatureService("all", features=[spending, limits]),
    policy=Policy("card", actions={"block": 0.3}, rules=[Rule("huge", when="limits.huge", action="block")]),
)
"""


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setenv("CARDS_SECRET", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("penstock.app.alerting.POLL_S", 0.01)
    monkeypatch.setattr("penstock.app.alert_sending.POLL_S", 0.01)
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)


def told(tmp_path, options):
    """The messages about 240 payments."""
    with Receiver() as cards:
        hook = f'Webhook("{cards.url}", secret_env="CARDS_SECRET")'
        alert = f'block = Alert("block", on=OnDecision(checkout, action="block"), to=[{hook}], {options})\n'
        root = write_project(tmp_path, DEFINITIONS.split("checkout = Endpoint(")[0] + RULED + alert)
        promote(root, register(root))
        with Runtime.open(root) as runtime, alerting(runtime, finish=lambda: True):
            runtime.ingest("payments", events(0, 240))
        return cards.bodies, runtime


def test_reasons_add_up_to_the_score_and_rules_are_named(tmp_path):
    bodies, _ = told(tmp_path, "reasons=20")
    by_rule = [body["data"] for body in bodies if "rule" in body["data"]]
    scored = [body["data"] for body in bodies if "rule" not in body["data"]]
    assert len(by_rule) > 3
    assert {one["rule"] for one in by_rule} == {"huge"}
    assert not any("reasons" in one for one in by_rule)
    assert len(scored) > 10
    bases = set()
    for one in scored:
        assert {reason["feature"] for reason in one["reasons"]} == {"spending.sum", "spending.count"}
        assert {reason["model"] for reason in one["reasons"]} == {"fraud:1"}
        margin = math.log(one["score"] / (1 - one["score"]))
        bases.add(round(margin - sum(reason["contribution"] for reason in one["reasons"]), 6))
    assert max(bases) - min(bases) < 2e-6
    title, text = text_of(json.dumps({"type": "alert.decision", "data": scored[0]}).encode())
    first = scored[0]["reasons"][0]
    assert title == "block: block"
    assert text.splitlines()[1] == f"{first['contribution']:+.2f} {first['text']}"
    assert "total amount in the last 1h" in text


def test_the_weightiest_come_first_and_as_many_as_asked_for(tmp_path):
    bodies, _ = told(tmp_path, "reasons=1")
    assert {len(body["data"].get("reasons", [0])) for body in bodies} == {1}


def test_none_where_none_are_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(Reasoners, "of", lambda *_, **__: [{"feature": "asked for"}])
    bodies, _ = told(tmp_path, "reasons=0")
    assert bodies
    assert not any("reasons" in body["data"] for body in bodies)


def test_of_a_group_those_that_are_sent_have_reasons(tmp_path):
    bodies, _ = told(tmp_path, "group_window=timedelta(hours=1)")
    events_told = [event for body in bodies for event in body["data"]["events"]]
    assert len(events_told) == 5
    assert all(("rule" in event) != ("reasons" in event) for event in events_told)
    text = text_of(json.dumps(bodies[0]).encode())[1]
    assert text.count("total amount in the last 1h") == sum("reasons" in event for event in events_told)


def test_how_many_is_a_small_number(tmp_path):
    alert = 'a = Alert("a", on=OnDecision(checkout, action="block"), to=[Apprise("json://x")], reasons={})\n'
    for wrong in (-1, 21, True, "3"):
        with pytest.raises(DefinitionError, match="reasons"):
            load_project(write_project(tmp_path, DEFINITIONS + alert.format(repr(wrong))))


def test_a_registry_that_is_away_holds_no_message_up(tmp_path, monkeypatch):
    asked = []

    def away(*arguments, **_):
        asked.append(arguments)
        raise StoreError("the registry is away")

    monkeypatch.setattr("penstock.app.reasons.reasoner_for", away)
    bodies, _ = told(tmp_path, "reasons=3")
    assert len(bodies) > 10
    assert not any("reasons" in body["data"] for body in bodies)
    assert len(asked) == 1, "it is not asked again for a while"


def scored(bodies):
    return [body["data"] for body in bodies if "rule" not in body["data"]]


def shifted(monkeypatch, by):
    """Reasons that add up to another score than the one that was served."""
    explain = Reasoner.explain

    def wrong(self, vectors, *, top=None):
        return [replace(one, score=one.score + by) for one in explain(self, vectors, top=top)]

    monkeypatch.setattr(Reasoner, "explain", wrong)


def test_reasons_that_do_not_fit_the_served_score_are_left_out_counted_and_told(tmp_path, monkeypatch):
    shifted(monkeypatch, 2e-6)
    bodies, runtime = told(tmp_path, "reasons=3")
    assert len(scored(bodies)) > 10
    assert not any("reasons" in one for one in scored(bodies)), "the alert itself is sent"
    assert dict(runtime.withheld_reasons) == {"checkout": len(scored(bodies))}
    problem = runtime.problems["reasons"]
    assert f"{len(scored(bodies))} decisions since the start" in problem
    assert "fraud:1, they come to" in problem


def test_a_millionth_is_rounding(tmp_path, monkeypatch):
    shifted(monkeypatch, 5e-7)
    bodies, runtime = told(tmp_path, "reasons=3")
    assert all(one["reasons"] for one in scored(bodies))
    assert not runtime.withheld_reasons
    assert "reasons" not in runtime.problems


def test_reasons_that_cannot_be_computed_hold_no_message_up(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ArtifactError("its contributions add up to something else")

    monkeypatch.setattr(Reasoner, "explain", broken)
    bodies, runtime = told(tmp_path, "reasons=3")
    assert len(scored(bodies)) > 10
    assert sum(runtime.withheld_reasons.values()) == len(scored(bodies))
    assert "add up to something else" in runtime.problems["reasons"]


def test_answers_are_held_to_the_same(tmp_path, monkeypatch):
    root = write_project(tmp_path, DEFINITIONS)
    promote(root, register(root))
    with Runtime.open(root) as runtime:
        answers = runtime.ingest("payments", events(0, 20), with_features=True)
        reasoners = Reasoners(runtime)
        assert all(one.reasons for one in reasoners.with_reasons("checkout", answers))
        shifted(monkeypatch, 2e-6)
        assert not any(one.reasons for one in reasoners.with_reasons("checkout", answers))
        assert runtime.withheld_reasons["checkout"] == 20
