"""Bad clocks: no event, however wrong its time, evicts state or poisons a key - live; and only its own key in history."""

from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
import pytest

from penstock.app.settings import EngineSettings, Settings
from penstock.core.time import to_us
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.recovery import encode_state
from penstock.testing.clock import ManualClock
from penstock.testing.streams import START_US
from tests.crash.engine_life import Runtime, project

SECOND = 1_000_000
STEP = 7 * SECOND
WRONG_TIMES = {
    "seconds for microseconds": lambda now: now // 1_000_000,
    "milliseconds for microseconds": lambda now: now // 1_000,
    "the year 1900": lambda now: -2_208_988_800 * SECOND,
    "a day behind": lambda now: now - 86_400 * SECOND,
    "six minutes ahead": lambda now: now + 360 * SECOND,
    "the year 2150": lambda now: 5_680_281_600 * SECOND,
    "microseconds times 1000": lambda now: now * 1_000,
}
AHEAD = {"six minutes ahead", "the year 2150"}


def payment(i, *, at, card):
    return {"id": f"p{i}", "at": at, "card": card, "shop": "s", "amount": i * 1.25, "device": f"d{i % 3}"}


def good_events(count=200, cards=5):
    """One event every few seconds, each with the time at which it happens."""
    chance = random.Random(3)
    return [payment(i, at=START_US + i * STEP, card=f"c{chance.randrange(cards)}") for i in range(count)]


def open_at(root, clock, *, future_check=True):
    settings = Settings(engine=EngineSettings(durability="process", future_check=future_check))
    return Runtime.open(root, project=project(), settings=settings, clock=clock)


def run(root, events, *, future_check=True, clock_us=None):
    """Each event at its own time by the clock, on its own; answers by id, decisions, and the state at the end."""
    clock = ManualClock(START_US)
    with open_at(root, clock, future_check=future_check) as runtime:
        answers = {}
        for happens_at, event in events:
            clock.advance(timedelta(microseconds=happens_at - clock.now_us()))
            answers[event["id"]] = runtime.ingest("payments", [event], with_features=True)[0]
        return answers, encode_state(runtime.engine.features)


def at_their_time(events):
    return [(event["at"], event) for event in events]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return run(tmp_path_factory.mktemp("clean"), at_their_time(good_events()))


@pytest.mark.parametrize("wrong", WRONG_TIMES)
def test_no_wrong_time_changes_what_good_events_see(tmp_path, clean, wrong):
    """Wrong events of every key, after the key's first one, thrown in all along the stream."""
    events = at_their_time(good_events())
    mixed = []
    for i, (now, event) in enumerate(events):
        mixed.append((now, event))
        if i % 3 == 0:
            mixed.append((now, payment(1000 + i, at=WRONG_TIMES[wrong](now), card=event["card"])))
    answers, state = run(tmp_path, mixed)
    bad = [answer for name, answer in answers.items() if int(name[1:]) >= 1000]
    if wrong in AHEAD:
        assert {(a.status, a.reason) for a in bad} == {("rejected", "in_future")}
    elif wrong == "microseconds times 1000":
        assert {a.status for a in bad} == {"rejected"}
    else:
        assert {(a.status, "too_late" in a.flags) for a in bad} == {("scored", True)}
    expected, clean_state = clean
    for name, answer in expected.items():
        assert (
            np.array(list(answer.features.values()), float).tobytes()
            == np.array(list(answers[name].features.values()), float).tobytes()
        ), name
        assert answers[name].flags == answer.flags
    assert state == clean_state, "a wrong time left something behind"


@pytest.mark.parametrize(
    "wrong", ["seconds for microseconds", "milliseconds for microseconds", "the year 1900"]
)
def test_a_key_that_begins_with_a_wrong_time_is_not_poisoned(tmp_path, clean, wrong):
    events = at_their_time(good_events())
    first = [(START_US, payment(1000 + i, at=WRONG_TIMES[wrong](START_US), card=f"c{i}")) for i in range(5)]
    answers, state = run(tmp_path, first + events)
    assert {answers[f"p{1000 + i}"].status for i in range(5)} == {"scored"}
    for name, answer in clean[0].items():
        assert answers[name].features == answer.features, name
    assert state == clean[1]


def test_history_that_is_ahead_of_its_time_spoils_its_own_key_alone(tmp_path, clean):
    """Without the check against the clock (history, backfill) a far-future event is believed: of that key only."""
    events = at_their_time(good_events())
    far = (events[50][0], payment(1000, at=WRONG_TIMES["the year 2150"](0), card="c0"))
    answers, _ = run(tmp_path, [*events[:51], far, *events[51:]], future_check=False)
    own = others = 0
    for i, (_, event) in enumerate(events):
        mine, expected = answers[event["id"]], clean[0][event["id"]]
        if event["card"] == "c0" and i > 50:
            assert "too_late" in mine.flags
            own += 1
        else:
            assert mine.features == expected.features
            others += 1
    assert own and others > 100  # noqa: PT018


def test_a_clock_that_is_a_little_ahead_costs_its_key_no_more_than_the_skew(tmp_path):
    """Up to `max_future_skew` is believed; the key's own events count again once time has passed that point."""
    events = at_their_time(good_events(cards=1))
    ahead = 240 * SECOND
    early = (events[20][0], payment(1000, at=events[20][0] + ahead, card="c0"))
    answers, _ = run(tmp_path, [*events[:21], early, *events[21:]])
    assert answers["p1000"].status == "scored"
    allowed = events[20][0] + ahead - to_us(project().sources["payments"].allowed_lateness)
    for now, event in events[21:]:
        flags = answers[event["id"]].flags
        assert ("too_late" in flags) == (now < allowed), "late for longer than the clock was wrong"


def test_a_clock_that_is_set_back_refuses_events_until_it_is_mended_and_takes_them_then(tmp_path, clean):
    events = good_events(20)
    clock = ManualClock(events[-1]["at"])
    with open_at(tmp_path, clock) as runtime:
        assert {a.status for a in runtime.ingest("payments", events[:10])} == {"scored"}
        clock.advance(-timedelta(days=1))
        refused = runtime.ingest("payments", events[10:])
        assert {(a.status, a.reason) for a in refused} == {("rejected", "in_future")}
        assert runtime.store.dead_letter_count() == 10
        clock.advance(timedelta(days=1))
        answers = runtime.ingest("payments", events[10:], with_features=True)
        assert {a.status for a in answers} == {"scored"}
        assert [a.features for a in answers] == [clean[0][e["id"]].features for e in events[10:]]


def test_labels_from_the_future_are_refused_and_move_no_window(tmp_path):
    clock = ManualClock(START_US + 3600 * SECOND)
    with open_at(tmp_path, clock) as runtime:
        runtime.ingest("payments", good_events(50))
        label = {"id": "p1", "is_fraud": True, "known_at": clock.now_us()}
        state = encode_state(runtime.engine.features)
        refused = runtime.ingest("chargebacks", [{**label, "known_at": 5_680_281_600 * SECOND}])
        assert [(a.status, a.reason) for a in refused] == [("rejected", "in_future")]
        assert encode_state(runtime.engine.features) == state
        assert runtime.ingest("chargebacks", [label])[0].status == "logged"
        event = payment(2000, at=clock.now_us() + 1, card="c0")
        seen = runtime.ingest("payments", [event], with_features=True)[0].features
        assert seen["risk.is_fraud_count_1h_continuous"] == 1
        decided = Decisions.from_bytes(next(runtime.store.read_decisions(51)).payload)
        assert not (decided.flags.astype(int) & (Flag.LATE | Flag.TOO_LATE)).any()
