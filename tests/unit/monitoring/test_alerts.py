"""Alerts on metrics as pure values, and what is sent."""

import json
from contextlib import closing

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.definitions.alerts import Apprise, Webhook
from penstock.monitoring.alert_messages import body_of, text_of
from penstock.monitoring.alert_sinks import Outbound, problem_with, signed_headers
from penstock.monitoring.alerts import METRICS, Rolling, Rows, Rule, State, advance, retry_after_us

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OUT, IN = 0.9, 0.1


def send(receiver, key, body, *, now_us, environ):
    with closing(Outbound(environ)) as outbound:
        return outbound.send(receiver, key, body, now_us=now_us)


def told(rule, looks):
    """What is told over looks of (time, value, silenced)."""
    state, found = State(), []
    for now_us, value, silenced in looks:
        state, kind = advance(state, rule, value, now_us=now_us, silenced=silenced)
        found.append(kind)
    return found


def test_it_must_last_without_a_break():
    rule = Rule(above=0.5, for_us=10)
    looks = [
        (0, OUT, False),
        (9, OUT, False),
        (10, IN, False),
        (11, OUT, False),
        (20, OUT, False),
        (21, OUT, False),
    ]
    assert told(rule, looks) == [None] * 5 + ["firing"]


def test_the_bound_itself_is_inside_and_below_is_the_other_side():
    assert told(Rule(above=0.5), [(0, 0.5, False)]) == [None]
    assert told(Rule(below=0.5), [(0, 0.5, False), (1, 0.4, False)]) == [None, "firing"]


def test_it_is_repeated_and_resolved_once():
    looks = [(t, OUT, False) for t in (0, 5, 10, 15, 20)] + [(21, IN, False), (22, IN, False)]
    assert told(Rule(above=0.5, repeat_us=10), looks) == [
        "firing", None, "repeated", None, "repeated", "resolved", None,
    ]  # fmt: skip
    assert told(Rule(above=0.5, recover=False), looks)[1:] == [None] * 6


def test_what_is_unknown_changes_nothing():
    looks = [(0, OUT, False), (1, None, False), (2, float("nan"), False), (3, IN, False)]
    assert told(Rule(above=0.5), looks) == ["firing", None, None, "resolved"]


def test_silence_puts_off_and_an_untold_incident_has_no_end_to_tell():
    rule = Rule(above=0.5)
    assert told(rule, [(0, OUT, True), (1, OUT, True), (2, OUT, False), (3, IN, True)]) == [
        None,
        None,
        "firing",
        "resolved",
    ]
    assert told(rule, [(0, OUT, True), (1, IN, False)]) == [None, None]


looks = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([OUT, IN, None]), st.booleans()), max_size=40)


@given(looks, st.integers(0, 20), st.none() | st.integers(1, 20))
def test_messages_of_an_incident_come_in_order_whatever_happens(steps, for_us, repeat_us):
    now, timed = 0, []
    for wait, value, silenced in steps:
        now += wait
        timed.append((now, value, silenced))
    open_ = False
    for kind in filter(None, told(Rule(above=0.5, for_us=for_us, repeat_us=repeat_us), timed)):
        assert (kind == "firing") != open_
        open_ = kind != "resolved"


def test_a_window_forgets_what_is_older_and_survives_being_stored():
    rolling = Rolling(window_us=600)
    draw, no = np.random.default_rng(3), np.zeros(50, np.bool_)
    times, alerts = [], []
    for start in range(0, 3000, 100):
        rows = Rows(draw.integers(start, start + 200, 50), draw.random(50), draw.random(50) < 0.3, no, no)
        times.append(rows.times_us)
        alerts.append(rows.alerts)
        rolling.add(rows)
        rolling = msgspec.json.decode(msgspec.json.encode(rolling), type=Rolling)
    times, alerts = np.concatenate(times), np.concatenate(alerts)
    oldest = (times.max() - 600) // 10
    inside = times // 10 > oldest
    assert rolling.total().decisions == inside.sum()
    assert METRICS["alert_rate"](rolling, 0) == alerts[inside].mean()
    assert METRICS["late_rate"](rolling, 0) == 0
    assert len(rolling.slots) <= 60


def test_waits_grow_to_an_hour_and_chance_takes_at_most_half():
    assert [retry_after_us(n, chance=0) for n in (1, 2, 12, 13, 90)] == [
        10**6,
        2 * 10**6,
        2048 * 10**6,
        3600 * 10**6,
        3600 * 10**6,
    ]
    assert retry_after_us(13, chance=1) == 1800 * 10**6


def test_each_of_several_secrets_signs():
    both = f"{SECRET} whsec_{'A' * 32}"
    headers = signed_headers("msg_1", b"{}", secrets=both, now_us=0)
    one = signed_headers("msg_1", b"{}", secrets=SECRET, now_us=0)
    assert headers["webhook-signature"].split()[0] == one["webhook-signature"]
    assert len(headers["webhook-signature"].split()) == 2


@pytest.mark.parametrize("value", ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", f"{SECRET} other"])
def test_a_secret_that_protects_nothing_sends_nothing(value):
    pytest.importorskip("httpx")
    hook = Webhook("http://127.0.0.1:9/never", secret_env="S")
    problem = problem_with(hook, {"S": value})
    assert problem is not None
    assert "MfKQ9r8" not in problem
    assert send(hook, "k", b"{}", now_us=0, environ={"S": value}).error == problem


def test_nobody_at_home_is_an_outcome_and_no_error(monkeypatch):
    pytest.importorskip("httpx")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    outcome = send(
        Webhook("http://127.0.0.1:9/", secret_env="S"), "k", b"{}", now_us=0, environ={"S": SECRET}
    )
    assert not outcome.delivered
    assert "ConnectError" in outcome.error


@pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning")  # Apprise's, in Python 3.11 and 3.12
def test_apprise_tells_people_and_its_failures_are_outcomes(monkeypatch):
    apprise = pytest.importorskip("apprise")
    said = []
    monkeypatch.setattr(apprise.Apprise, "notify", lambda _, **words: said.append(words) or len(said) == 1)
    body = body_of("alert.decision", 0, {"alert": "ban", "endpoint": "pay", "action": "block", "score": 0.5})
    chat, environ = Apprise(url_env="CHAT"), {"CHAT": "json://127.0.0.1:9"}
    assert send(chat, "k", body, now_us=0, environ=environ).delivered
    assert not send(chat, "k", body, now_us=0, environ=environ).delivered
    assert said[0]["title"] == "ban: block"
    assert not send(chat, "k", body, now_us=0, environ={"CHAT": "nonsense://x"}).delivered
    assert "several" in str(problem_with(chat, {"CHAT": "json://a json://b"}))


def test_a_group_for_people_has_its_count_and_a_line_an_event():
    events = [
        {"event_id": "p1", "score": 0.9, "include": {"country": "DE"}},
        {"event_id": "p2", "score": None},
    ]
    data = {"alert": "ban", "endpoint": "pay", "count": 1200, "group": {"shop": "a"}, "events": events}
    title, text = text_of(body_of("alert.decisions", 0, data))
    assert title == "ban: 1,200 decisions"
    assert text.splitlines()[1:] == ["event_id p1, score 0.9, country DE", "event_id p2"]
    assert json.loads(body_of("alert.decisions", 0, data))["data"] == data
