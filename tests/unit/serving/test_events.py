"""Decisions: listed by every filter, page by page, and one event with all that belongs to it."""

from datetime import datetime

import pytest

from penstock.app import decision_list
from penstock.app.explaining import as_json, explain_event
from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import from_us
from penstock.engine.decisions import Decisions
from tests.unit.serving.shop import EVENTS, payments


@pytest.fixture(scope="module")
def stored(shop):
    """What the store holds, read the other way round: (position, score, action) of each decision, newest first."""
    rows = []
    for batch in shop.runtime.store.read_decisions():
        found = Decisions.from_bytes(batch.payload)
        for at, score, taken in zip(
            batch.positions.tolist(), found.scores.tolist(), found.taken.tolist(), strict=True
        ):
            rows.append((at, score, found.actions[taken]))
    return sorted(rows, reverse=True)


def everything(client, **filters):
    """All pages."""
    items, cursor = [], None
    while True:
        page = client.decisions(cursor=cursor, **filters)
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            return items


def brief(items):
    return [(one["position"], one["score"], one["action"]) for one in items]


@pytest.mark.parametrize("limit", [1, 7, 25, 1000])
def test_pages_hold_each_decision_once_newest_first(asking, stored, limit):
    assert brief(everything(asking, limit=limit)) == stored
    assert len(stored) == EVENTS


def test_a_row_names_its_event(asking):
    rows = {one["event_id"]: one for one in everything(asking)}
    sent = {row["payment_id"]: row for row in payments()}
    assert rows.keys() == sent.keys()
    for event_id, row in rows.items():
        assert row["keys"] == {"card_id": sent[event_id]["card_id"], "shop_id": sent[event_id]["shop_id"]}
        assert datetime.fromisoformat(row["event_time"]) == datetime.fromisoformat(sent[event_id]["paid_at"])
        assert (row["endpoint"], row["source"], row["model"], row["arm"]) == (
            "checkout",
            "payments",
            "fraud:1",
            "champion",
        )


def test_filters_by_score_and_action(asking, stored):
    scores = sorted(score for _, score, _ in stored)
    low, high = scores[50], scores[150]
    assert brief(everything(asking, min_score=low, max_score=high)) == [
        r for r in stored if low <= r[1] <= high
    ]
    for action in ("approve", "review", "block"):
        assert brief(everything(asking, action=action)) == [row for row in stored if row[2] == action]
    assert {row[2] for row in stored} >= {"approve", "block"}, "the filters are shown something"


def test_filters_by_who_decided(asking, stored):
    for one in ({"model": "fraud:1"}, {"model": "fraud"}, {"arm": "champion"}, {"endpoint": "checkout"}):
        assert brief(everything(asking, **one)) == stored
    assert everything(asking, model="fraud:2") == everything(asking, arm="challenger") == []


def test_filter_by_key(asking):
    for name in ("card_id", "shop_id"):
        wanted = payments()[3][name]
        found = everything(asking, key=wanted, limit=3)
        assert {one["event_id"] for one in found} == {
            r["payment_id"] for r in payments() if r[name] == wanted
        }
    assert everything(asking, key="nobody") == []


def test_filter_by_event_id(asking):
    (found,) = asking.decisions(event_id=payments()[17]["payment_id"])["items"]
    assert found["event_id"] == payments()[17]["payment_id"]
    assert asking.decisions(event_id="nothing")["items"] == []
    assert asking.decisions(event_id=payments()[17]["payment_id"], action="no such action")["items"] == []


def test_filters_by_time_of_the_decision(asking, shop, stored):
    now = from_us(shop.runtime.clock.now_us())
    assert brief(everything(asking, since=now)) == stored, "the test's clock stands still"
    assert everything(asking, until=now) == []


def test_the_work_of_a_page_is_bounded_and_the_next_goes_on(asking, stored, monkeypatch):
    monkeypatch.setattr(decision_list, "MOST_LOOKED_AT", 50)
    page = asking.decisions(key="nobody")
    assert page["items"] == []
    assert page["looked_at"] == 50
    assert page["next"] is not None
    assert page["reached"] is not None
    wanted = payments()[3]["card_id"]
    found = everything(asking, key=wanted)
    assert {one["event_id"] for one in found} == {
        r["payment_id"] for r in payments() if r["card_id"] == wanted
    }
    assert brief(everything(asking)) == stored


@pytest.mark.parametrize("cursor", ["x", "", "eyJhIjoxfQ", "LTE", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "MQ=="])
def test_a_cursor_of_somebody_elses_is_refused(asking, cursor):
    for path in ("/v1/decisions", "/v1/dead-letters"):
        try:
            assert asking.get(path, cursor=cursor)["items"] is not None
        except InputError as error:
            assert "cursor" in str(error)  # noqa: PT017 - either is right, a defect is not


def test_an_event_with_its_decision_features_and_labels(asking, shop):
    sent = payments()[5]
    found = asking.event("payments", sent["payment_id"], features=True, reasons=True)
    (row,) = asking.decisions(event_id=sent["payment_id"])["items"]
    assert found["event"]["amount"] == sent["amount"]
    assert datetime.fromisoformat(found["event_time"]) == datetime.fromisoformat(sent["paid_at"])
    decision = found["decision"]
    assert [decision[k] for k in ("score", "action", "model", "arm")] == [
        row[k] for k in ("score", "action", "model", "arm")
    ]
    assert decision["digest"] == shop.runtime.routes["checkout"].serving[0].named.digest
    assert decision["thresholds"] == {"review": 0.3, "block": 0.8}
    assert decision["default"] == "approve"
    (label,) = found["labels"]
    assert label["value"] in {0.0, 1.0}
    again = asking.score("checkout", sent, features=True, reasons=True)
    assert again["status"] == "duplicate"
    assert found["features"] == again["features"]
    assert {one["feature"] for one in again["reasons"]} <= {one["feature"] for one in found["reasons"]}


def test_what_was_not_asked_for_is_left_out(asking):
    found = asking.event("payments", payments()[5]["payment_id"])
    assert found["features"] is found["reasons"] is found["provenance"] is None


def test_provenance_is_that_of_the_command(asking, shop):
    event_id = payments()[120]["payment_id"]
    found = asking.event("payments", event_id, provenance=True)["provenance"]
    told = as_json(explain_event(shop.platform.root, event_id))
    assert found == {name: told[name] for name in ("features", "notes", "differing")}
    assert found["differing"] == 0
    assert any(feature.get("events") for feature in found["features"])


def test_provenance_of_a_long_log_comes_from_a_process_of_its_own(asking, monkeypatch):
    event_id = payments()[120]["payment_id"]
    here = asking.event("payments", event_id, provenance=True)["provenance"]
    monkeypatch.setattr("penstock.serving.tracing_back.SHORT", 0)
    assert asking.event("payments", event_id, provenance=True, timeout=120)["provenance"] == here


def test_a_label_is_an_event_without_decision_whose_id_the_log_gave(asking, shop):
    position = next(b.positions.item(0) for b in shop.runtime.store.read_log(sources={"chargebacks"}))
    found = asking.event("chargebacks", f"chargebacks:{position}")
    assert found["decision"] is None
    assert found["event"]["payment_id"] == payments()[0]["payment_id"]


@pytest.mark.parametrize(
    ("source", "event_id"),
    [
        ("payments", "nothing"),
        ("payments", "position:3"),
        ("chargebacks", "chargebacks:3"),
        ("chargebacks", "chargebacks:-1"),
        ("chargebacks", "chargebacks:" + "9" * 30),
        ("chargebacks", "chargebacks:²"),
        ("nowhere", "p00001"),
        ("payments", "../../etc/passwd"),
        ("payments", "a/b c?d#e%2f\0"),
    ],
)
def test_what_is_not_there_is_not_found(asking, source, event_id):
    with pytest.raises(NotFoundError):
        asking.event(source, event_id)
