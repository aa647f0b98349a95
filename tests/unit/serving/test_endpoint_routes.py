"""Endpoints, weights, alerts and retraining over HTTP."""

from textwrap import dedent

import pytest

from penstock.app.guard_log import note
from tests.unit.app import arms
from tests.unit.serving.shop_server import WHY, arms_project, asking, events

MORE = dedent("""
    import os
    os.environ.setdefault("CARDS_SECRET", "whsec_" + "a" * 43 + "=")
    busy = Alert("busy", on=OnMetric(checkout, "alert_rate", above=0.05), to=[Webhook("http://127.0.0.1:9/x", secret_env="CARDS_SECRET")])
    banned = Alert("banned", on=OnDecision(checkout, action="block"), to=[Webhook("http://127.0.0.1:9/x", secret_env="NOT_SET")])
""")


@pytest.fixture(autouse=True)
def no_child(monkeypatch):
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)


@pytest.fixture
def shop(tmp_path):
    root = arms_project(tmp_path)
    (root / "definitions.py").write_text(arms.DEFINITIONS + MORE)
    with asking(root) as (served, client):
        yield served, client


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json()


def shares(found):
    return {one["arm"]: one["share"] for one in found["arms"] if not one["shadow"]}


def test_an_endpoint_with_its_arms(shop):
    served, client = shop
    ok(client.post("/v1/sources/payments/events", json=events(0, 100)))
    served.runtime.shadows.flush()
    (found,) = ok(client.get("/v1/endpoints"))["items"]
    assert found["thresholds"] == {"block": 0.9}
    assert shares(found) == {"champion": 0.8, "challenger": 0.2, "narrow": 0.0}
    assert {one["arm"]: one["serving"] for one in found["arms"]} == {
        "champion": "fraud:1",
        "challenger": "fraud:2",
        "narrow": None,
        "watcher": "fraud:2",
        "narrow_watcher": "narrow:1",
    }
    assert found["shadows"]["scored"] == {"watcher": 100, "narrow_watcher": 100}
    assert found["guard"]["limits"]["events"] == 10_000
    ok(client.get("/v1/endpoints/nothing"), 404)


def test_weights_are_in_force_when_it_answers(shop):
    served, client = shop
    found = ok(client.put("/v1/endpoints/checkout/weights", json=WHY | {"weights": {"narrow": 100}}))
    assert shares(found)["narrow"] == 0.5
    assert {one["arm"]: one["serving"] for one in found["arms"]}["narrow"] == "narrow:1"
    assert {arm.name for arm in served.runtime.routes["checkout"].serving} == {
        "champion",
        "challenger",
        "narrow",
    }
    both = ok(
        client.put("/v1/endpoints/checkout/weights", json=WHY | {"reset": True, "weights": {"narrow": 20}})
    )
    assert {one["arm"]: one["weight"] for one in both["arms"]}["champion"] == 80
    back = ok(client.put("/v1/endpoints/checkout/weights", json=WHY | {"reset": True}))
    assert shares(back)["narrow"] == 0
    rows = ok(client.get("/v1/endpoints/checkout/weights"))["items"]
    assert [row["weights"] is None for row in rows] == [True, False, False]
    assert {(row["actor"], row["reason"]) for row in rows} == {("local", "a test")}


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"weights": {"narrow": 1}}, 422),
        (WHY, 422),
        (WHY | {"weights": {"nothing": 1}}, 404),
        (WHY | {"weights": {"narrow": -1}}, 409),
        (WHY | {"weights": {"watcher": 1}}, 422),
        (WHY | {"weights": {"champion": 0, "challenger": 0}}, 422),
    ],
)
def test_wrong_weights_change_nothing(shop, asked, status):
    served, client = shop
    ok(client.put("/v1/endpoints/checkout/weights", json=asked), status)
    assert served.runtime.routes.audit.rows() == []


def test_what_the_guard_found(shop):
    served, client = shop
    note(
        served.runtime.routes.audit,
        "checkout",
        "refused",
        version="fraud:2",
        what="scoring",
        numbers={"share": 0.5},
        reason="it is slow",
    )
    (verdict,) = ok(client.get("/v1/endpoints/checkout"))["guard"]["verdicts"]
    assert (verdict["version"], verdict["verdict"], verdict["numbers"]) == (
        "fraud:2",
        "refused",
        {"share": 0.5},
    )


def test_alerts_are_silenced_and_told_of(shop):
    _served, client = shop
    found = {one["name"]: one for one in ok(client.get("/v1/alerts"))["items"]}
    assert list(found) == ["banned", "busy"]
    assert found["busy"]["state"] == "ok"
    assert found["banned"]["problems"]
    ok(client.post("/v1/alerts/busy/silence", json={"for_s": 60}), 422)
    silenced = ok(client.post("/v1/alerts/busy/silence", json=WHY | {"for_s": 3600}))
    assert silenced["silenced_until"] is not None
    assert ok(client.get("/v1/alerts/busy"))["silenced_until"] == silenced["silenced_until"]
    ended = ok(client.post("/v1/alerts/busy/silence", json=WHY | {"for_s": 0}))
    assert ended["silenced_until"] is None
    assert ok(client.post("/v1/alerts/busy/retry", json=WHY)) == {"waiting": 0}
    tried = ok(client.post("/v1/alerts/banned/test", json=WHY))
    assert [one["delivered"] for one in tried.values()] == [False]
    for path in ("nothing/silence", "nothing/retry", "nothing/test"):
        ok(client.post(f"/v1/alerts/{path}", json=WHY | ({"for_s": 1} if "silence" in path else {})), 404)
    actions = [row["action"] for row in ok(client.get("/v1/audit"))["items"]]
    assert actions == ["alert.test", "alert.retry", "alert.silence", "alert.silence"]


def test_messages_by_page(shop):
    served, client = shop
    from contextlib import closing

    from penstock.app.alerting import alerts_path
    from penstock.stores.alerts import AlertStore, Changes, Outgoing

    messages = [
        Outgoing(f"k{i}", "busy", "hook", "alert.firing", 1_000_000 + i, 2_000_000, b"{}") for i in range(5)
    ]
    with closing(AlertStore(alerts_path(served.platform.root))) as store:
        store.begin("id", ["busy"], 0, since=0)
        store.commit(Changes(cursor=0, messages=messages))
    first = ok(client.get("/v1/alert-messages", params={"limit": 3}))
    rest = ok(client.get("/v1/alert-messages", params={"limit": 3, "cursor": first["next"]}))
    assert [one["key"] for one in first["items"] + rest["items"]] == ["k4", "k3", "k2", "k1", "k0"]
    assert rest["next"] is None
    assert ok(client.get("/v1/alert-messages", params={"state": "sent"}))["items"] == []
    ok(client.get("/v1/alert-messages", params={"state": "lost"}), 422)


def test_a_model_that_is_trained_by_hand(shop):
    _, client = shop
    found = ok(client.get("/v1/models/fraud/retraining"))
    assert (found["rules"], found["watched"], found["newest"]) == (None, False, None)
    assert ok(client.get("/v1/models/fraud/retraining/attempts"))["items"] == []
    ok(client.get("/v1/models/nothing/retraining"), 404)
    ok(client.get("/v1/models/nothing/retraining/attempts"), 404)
