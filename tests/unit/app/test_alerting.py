"""Alerts beside a running project: what is told, how often, and what a receiver that fails or hangs changes."""

import base64
import hmac
import json
import time
from contextlib import closing

import pytest

from penstock.app.alerting import alerting, alerts_path, revive, silence, statuses, try_out
from penstock.core.clock import SystemClock
from penstock.definitions.project import load_project
from penstock.stores.alerts import AlertStore
from tests.unit.app.receiver import SECRET, Receiver, at_random
from tests.unit.app.told import START_US, hook, open_project, pay

pytest.importorskip("httpx")
BLOCKED = 'block = Alert("block", on=OnDecision(checkout, action="block"), to=[{to}])\n'


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setenv("CARDS_SECRET", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("penstock.monitoring.alerts.FIRST_RETRY_US", 1_000)
    monkeypatch.setattr("penstock.app.alert_sending.POLL_S", 0.01)
    monkeypatch.setattr("penstock.app.alerting.POLL_S", 0.01)


def told(folder, **options):
    with closing(AlertStore(alerts_path(folder))) as store:
        return store.log(**options)


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_each_decision_is_told_once_signed_and_without_the_event(tmp_path):
    with Receiver() as cards:
        alert = BLOCKED.format(to=hook(cards))
        with open_project(tmp_path, alert) as runtime, alerting(runtime, finish=lambda: True):
            pay(runtime, [0.1, 0.95, 0.6, 0.99])
    assert [body["data"]["event_id"] for body in cards.bodies] == ["p1", "p3"]
    data = cards.bodies[0]["data"]
    assert data == {
        "alert": "block", "endpoint": "checkout", "event_id": "p1", "time": "2023-11-14T22:14:20+00:00",
        "action": "block", "score": 0.95, "model": "amount:1",
    }  # fmt: skip
    for headers, body in cards.taken:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.digest(base64.b64decode(SECRET.removeprefix("whsec_")), signed, "sha256")
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        assert abs(int(headers["webhook-timestamp"]) - SystemClock().now_us() / 1e6) < 300
    assert [row.state for row in told(tmp_path)] == ["sent", "sent"]


def test_what_was_decided_before_an_alert_was_defined_is_not_told_but_all_of_the_time_between_runs(tmp_path):
    with open_project(tmp_path, "") as runtime, alerting(runtime):
        pay(runtime, [0.99])
    with Receiver() as cards:
        alert = BLOCKED.format(to=hook(cards))
        with open_project(tmp_path, alert) as runtime:
            with alerting(runtime):
                pass
            pay(runtime, [0.98], start=1)  # nobody looks on
            with alerting(runtime, finish=lambda: True):
                pay(runtime, [0.97], start=2)
        assert [body["data"]["event_id"] for body in cards.bodies] == ["p1", "p2"]


def test_columns_and_features_narrow_it_down_and_columns_are_sent_where_asked(tmp_path):
    with Receiver() as cards:
        where = '{"country": ["DE", "IT"], "payment.large": True}'
        alert = f"""
block = Alert("block", on=OnDecision(checkout, action=["review", "block"], where={where}), to=[{hook(cards)}], include=["country", "t"])
"""
        with open_project(tmp_path, alert) as runtime, alerting(runtime, finish=lambda: True):
            pay(runtime, [0.99, 0.99, 0.92, 0.93], country=lambda i: ["FR", "DE", "DE", None][i])
        assert [body["data"]["event_id"] for body in cards.bodies] == ["p1"]
        assert cards.bodies[0]["data"]["include"] == {"country": "DE", "t": "2023-11-14T22:14:20+00:00"}


def test_a_group_is_one_message_with_count_and_the_first_few(tmp_path):
    with Receiver() as cards:
        alert = f"""
block = Alert("block", on=OnDecision(checkout, action="block"), to=[{hook(cards)}], group_by=["country"], group_window=60 * minute)
"""
        with open_project(tmp_path, alert) as runtime:
            with alerting(runtime):
                pay(runtime, [0.95] * 8)
                wait_for(lambda: len(stored_groups(tmp_path)) == 2)
            assert cards.bodies == []  # the window is open, and a stop does not close it
            with alerting(runtime, finish=lambda: True):
                pay(runtime, [0.95] * 8, start=8)
        found = {body["data"]["group"]["country"]: body["data"] for body in cards.bodies}
        assert {country: data["count"] for country, data in found.items()} == {"DE": 8, "FR": 8}
        assert [event["event_id"] for event in found["DE"]["events"]] == ["p1", "p3", "p5", "p7", "p9"]


def stored_groups(folder):
    with closing(AlertStore(alerts_path(folder))) as store:
        return store.groups()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_receiver_that_fails_at_random_is_told_everything(tmp_path, seed):
    with Receiver(at_random(seed)) as cards:
        with open_project(tmp_path, BLOCKED.format(to=hook(cards))) as runtime, alerting(runtime):
            for first in range(0, 60, 10):
                pay(runtime, [0.95, 0.1] * 5, start=first)
            wait_for(lambda: len(set(cards.keys)) == 30)
        assert sorted(body["data"]["event_id"] for body in cards.bodies) == sorted(
            f"p{i}" for i in range(0, 60, 2)
        )
        assert cards.asked > 30


def test_a_hanging_receiver_slows_neither_scoring_nor_other_receivers(tmp_path):
    with Receiver(lambda: None) as hanging, Receiver() as cards:
        alert = BLOCKED.format(to=f"{hook(hanging)}, {hook(cards)}")
        with open_project(tmp_path, alert) as runtime, alerting(runtime):
            begun = time.monotonic()
            for first in range(0, 100, 5):
                pay(runtime, [0.95] * 5, start=first)
            assert time.monotonic() - begun < 5.0  # one attempt waits for ten seconds
            wait_for(lambda: len(cards.keys) == 100)
            assert hanging.asked == 1
            hanging.released.set()
    assert {row.state for row in told(tmp_path, limit=1000) if row.target == cards.url} == {"sent"}


def test_a_redirect_is_not_followed_and_gone_is_given_up(tmp_path):
    with Receiver() as elsewhere, Receiver(lambda: 410) as gone:
        moved_to = Receiver(lambda: 307, headers=[("location", elsewhere.url)])
        alert = BLOCKED.format(to=f"{hook(moved_to)}, {hook(gone)}")
        with moved_to, open_project(tmp_path, alert) as runtime:
            with alerting(runtime):
                pay(runtime, [0.95])
                wait_for(
                    lambda: (
                        moved_to.asked >= 2 and [r.state for r in told(tmp_path, state="dead")] == ["dead"]
                    )
                )
            assert elsewhere.asked == 0
            assert gone.asked == 1
        rows = {row.target: row for row in told(tmp_path)}
        assert rows[gone.url].error == "answered 410"
        assert "redirect" in rows[moved_to.url].error


def test_what_a_power_cut_took_is_made_again_under_the_same_keys(tmp_path):
    with Receiver() as cards:
        alert = BLOCKED.format(to=hook(cards))
        with open_project(tmp_path, alert) as runtime:
            with alerting(runtime):
                pass
            before = alerts_path(tmp_path).read_bytes()
            for _ in range(2):
                alerts_path(tmp_path).write_bytes(before)
                with alerting(runtime, finish=lambda: True):
                    if not cards.keys:
                        pay(runtime, [0.95, 0.1, 0.97])
        assert len(cards.keys) == 4
        assert cards.keys[:2] == cards.keys[2:]


def test_what_is_not_taken_in_time_is_dead_shown_and_can_be_tried_again(tmp_path):
    status = [503]
    with Receiver(lambda: status[0]) as cards:
        alert = f"""
block = Alert("block", on=OnDecision(checkout, action="block"), to=[{hook(cards)}], give_up_after=timedelta(milliseconds=50))
"""
        with open_project(tmp_path, alert) as runtime:
            with alerting(runtime):
                pay(runtime, [0.95])
                wait_for(lambda: told(tmp_path, state="dead"))
            assert statuses(runtime.project)[0].messages == {"dead": 1}
            status[0] = 204
            assert revive(runtime.project, "block") == 1
            with alerting(runtime, finish=lambda: True):
                pass
        assert [body["data"]["event_id"] for body in cards.bodies] == ["p0"]


def test_a_silenced_alert_only_notes(tmp_path):
    from datetime import timedelta

    with Receiver() as cards, open_project(tmp_path, BLOCKED.format(to=hook(cards))) as runtime:
        silence(runtime.project, "block", timedelta(hours=1), actor="ann", reason="test of the card system")
        with alerting(runtime, finish=lambda: True):
            pay(runtime, [0.95])
        silence(runtime.project, "block", timedelta(0), actor="ann", reason="over")
        with alerting(runtime, finish=lambda: True):
            pay(runtime, [0.95], start=1)
        assert [body["data"]["event_id"] for body in cards.bodies] == ["p1"]
        assert [row.state for row in told(tmp_path)] == ["sent", "silenced"]
        reasons = [row.reason for row in runtime.routes.audit.rows(action="alert.silence")]
        assert reasons == ["test of the card system", "over"]


def test_a_metric_out_of_bounds_is_told_once_and_its_recovery_too(tmp_path):
    with Receiver() as chat:
        alert = f"""
busy = Alert("busy", on=OnMetric(checkout, "alert_rate", above=0.5, window=10 * minute, at_least=10), to=[{hook(chat)}])
"""
        with open_project(tmp_path, alert) as runtime:
            for first, scores in enumerate([[0.1] * 20, [0.95] * 20, [0.95] * 20, [0.1] * 20, [0.1] * 20]):
                with alerting(runtime, finish=lambda: True):  # each a restart: the window is kept
                    pay(runtime, scores, start=20 * first)
        assert [body["type"] for body in chat.bodies] == ["alert.firing", "alert.resolved"]
        data = chat.bodies[0]["data"]
        assert (data["metric"], data["value"], data["bound"], data["side"]) == (
            "alert_rate",
            1.0,
            0.5,
            "above",
        )


def test_quality_is_that_of_penstock_metrics(tmp_path):
    with Receiver() as chat:
        alert = f"""
poor = Alert("poor", on=OnMetric(checkout, "roc_auc", below=0.6, window=day, at_least=20), to=[{hook(chat)}])
"""
        with open_project(tmp_path, alert) as runtime, alerting(runtime, finish=lambda: True):
            count = 60 * 24 * 3
            pay(runtime, [i % 10 / 10 for i in range(count)])
            known = START_US + 5 * 86_400_000_000
            labels = [{"id": f"p{i}", "is_fraud": i % 10 < 3, "reported_at": known} for i in range(count)]
            runtime.ingest("charges", labels)
        assert [body["type"] for body in chat.bodies] == ["alert.firing"]
        assert chat.bodies[0]["data"]["value"] == pytest.approx(0.0)


def test_a_missing_secret_is_said_and_the_message_waits(tmp_path, monkeypatch):
    monkeypatch.delenv("CARDS_SECRET")
    with Receiver() as cards, open_project(tmp_path, BLOCKED.format(to=hook(cards))) as runtime:
        with alerting(runtime):
            pay(runtime, [0.95])
            wait_for(lambda: told(tmp_path))
            assert "CARDS_SECRET is not set" in runtime.problems["alerts"]
        assert cards.asked == 0
        monkeypatch.setenv("CARDS_SECRET", SECRET)
        with alerting(runtime):
            wait_for(lambda: cards.keys)
            assert "alerts" not in runtime.problems


def test_a_test_message_says_what_became_of_it(tmp_path):
    with Receiver() as cards, Receiver(lambda: 500) as broken:
        open_project(tmp_path, BLOCKED.format(to=f"{hook(cards)}, {hook(broken)}")).close()
        outcomes = try_out(load_project(tmp_path).alerts["block"], clock=SystemClock())
    assert {name: outcome.error for name, outcome in outcomes.items()} == {
        cards.url: "",
        broken.url: "answered 500",
    }
    assert cards.bodies[0]["type"] == "alert.test"


def test_forgotten_events_leave_messages_and_groups(tmp_path):
    with closing(AlertStore(tmp_path / "alerts.db")) as store:
        from penstock.stores.alerts import Changes, Outgoing

        store.begin("s", ["a"], 0, since=0)
        single = Outgoing("k1", "a", "to", "decision", 1, 99, b'{"data":{"event_id":"secret7"}}', (7,))
        events = [{"event_id": "secret7"}, {"event_id": "kept8"}]
        body = json.dumps({"data": {"count": 2, "events": events}}).encode()
        group = json.dumps({"positions": [7, 8], "events": events})
        changes = Changes(9, [single, Outgoing("k2", "a", "to", "decisions", 1, 99, body, (7, 8))])
        changes.groups["a", "x"] = group
        store.commit(changes)
        assert store.erase([7]) == 3
        assert [row.key for row in store.log()] == ["k2"]
        assert json.loads(store.groups()[0])["positions"] == [8]
    assert b"secret7" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
