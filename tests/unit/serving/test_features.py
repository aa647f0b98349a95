"""Features by key over HTTP are what the engine says of itself."""

from datetime import datetime, timedelta

import pytest

from penstock.core.errors import InputError, NotFoundError
from tests.unit.serving.shop import CLOCK, payments

KEYS = {"card_id": payments()[0]["card_id"], "shop_id": payments()[0]["shop_id"]}


def test_values_status_and_freshness_are_the_engines(shop, asking):
    found = asking.features("fraud_features", KEYS, {"amount": 12.5})
    engine = shop.runtime.online.read("fraud_features", KEYS, {"amount": 12.5})
    (row,) = found["rows"]
    assert {one["name"]: one["value"] for one in row["features"]} == engine.to_dict()
    assert found["position"] == engine.position == shop.runtime.store.next_position
    by_name = {one["name"]: one for one in engine.metadata()}
    for one in row["features"]:
        known = by_name[one["name"]]
        assert (one["status"], one["dtype"]) == (known["status"], known["dtype"])
        assert (one["freshness_s"] is None) == (known["freshness"] is None)
    assert any(one["status"] == "missing" for one in row["features"])


def test_effective_times_are_iso_8601_in_utc(asking):
    (row,) = asking.features("fraud_features", KEYS, {"amount": 1.0})["rows"]
    times = [
        datetime.fromisoformat(one["effective_time"]) for one in row["features"] if one["effective_time"]
    ]
    assert times
    assert all(time.utcoffset() == timedelta(0) for time in times)


def test_several_rows_in_their_order(asking):
    cards = [{"card_id": row["card_id"], "shop_id": row["shop_id"]} for row in payments(5)]
    found = asking.features("fraud_features", cards, [{"amount": float(i)} for i in range(5)])
    amounts = [
        one["value"] for row in found["rows"] for one in row["features"] if one["name"] == "payment.amount"
    ]
    assert amounts == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_view_alone(asking):
    found = asking.post("/v1/views/card_spending/features", {"join_keys": {"card_id": KEYS["card_id"]}})
    assert found["name"] == "card_spending"
    assert len(found["rows"][0]["features"]) == 6


def test_a_window_is_over_without_a_new_event(asking):
    (row,) = asking.features("fraud_features", KEYS, {"amount": 1.0})["rows"]
    counts = {one["name"]: one["value"] for one in row["features"]}
    assert counts["card_spending.amount_count_1h_continuous"] == 0
    assert CLOCK.now_us()


@pytest.mark.parametrize(
    ("join_keys", "request_data", "found"),
    [
        ({"card_id": "c"}, {"amount": 1.0}, "'shop_id' is missing"),
        (KEYS, {"amount": "much"}, "Expected `float`"),
        (KEYS, {"amount": 1.0, "more": 1}, "'more' is not asked for"),
        ([KEYS, KEYS], [{"amount": 1.0}], "2 join_keys and 1 request_data"),
        ({**KEYS, "card_id": None}, {"amount": 1.0}, "null"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(asking, join_keys, request_data, found):
    with pytest.raises(InputError, match=found):
        asking.features("fraud_features", join_keys, request_data)


def test_unknown_names_list_those_that_there_are(asking):
    with pytest.raises(NotFoundError, match="there are fraud_features"):
        asking.features("card_spending", KEYS)
    with pytest.raises(NotFoundError, match="card_spending"):
        asking.post("/v1/views/fraud_features/features", {"join_keys": KEYS})


def test_too_many_rows_are_refused(asking):
    with pytest.raises(InputError, match="1001 rows in one request; allowed are 1000"):
        asking.features("fraud_features", [KEYS] * 1001, [{"amount": 1.0}] * 1001)
