"""Tecton's shapes: what they say is what the routes under /v1 say, in their form; errors too."""

import json

import httpx
import pytest

from penstock.core.errors import OverloadError
from tests.unit.serving.shop import payments

GET, INGEST = "/api/v1/feature-service/get-features", "/ingest"
KEYS = {"card_id": payments()[0]["card_id"], "shop_id": payments()[0]["shop_id"]}


def asked(**params):
    given = {"featureServiceName": "fraud_features", "joinKeyMap": KEYS, "requestContextMap": {"amount": 2.0}}
    return {"params": {**given, **params}}


def test_features_are_those_of_the_other_route(asking):
    theirs = asking.post(GET, asked(metadataOptions={"includeNames": True}))
    (ours,) = asking.features("fraud_features", KEYS, {"amount": 2.0})["rows"]
    assert [one["name"] for one in theirs["metadata"]["features"]] == [
        one["name"] for one in ours["features"]
    ]
    for value, meta, one in zip(
        theirs["result"]["features"], theirs["metadata"]["features"], ours["features"], strict=True
    ):
        is_integer = one["dtype"] in {"Int64", "Int32"} and one["value"] is not None
        assert value == (str(one["value"]) if is_integer else one["value"])
        assert meta["effectiveTime"] is None or one["effective_time"] is not None
        assert meta["status"] == {"present": "PRESENT", "missing": "MISSING_DATA"}[one["status"]]
    assert {one["dataType"]["type"] for one in theirs["metadata"]["features"]} == {"int64", "float64"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (asked(featureServiceName="nope"), 404, 5),
        (asked(joinKeyMap={}), 400, 3),
        (asked(joinKeyMap={**KEYS, "card_id": 7}), 400, 3),
        ({"params": {}}, 400, 3),
        ([], 400, 3),
    ],
)
def test_errors_of_get_features_have_their_form(shop, body, status, code):
    answer = httpx.post(shop.url + GET, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["message"] == answer.json()["error"] != ""


def test_several_sources_in_one_call_readable_when_it_returns(client):
    rows = payments(3)
    label = {"payment_id": rows[0]["payment_id"], "is_fraud": True, "reported_at": "2025-03-04T00:00:00Z"}
    told = client.post(
        INGEST,
        {"records": {"payments": [{"record": row} for row in rows], "chargebacks": [{"record": label}]}},
    )
    assert told["ingestMetrics"]["sourceIngestMetrics"] == [
        {"sourceName": "payments", "recordIngestCount": "3"},
        {"sourceName": "chargebacks", "recordIngestCount": "1"},
    ]
    for row in rows:
        assert client.event("payments", row["payment_id"])["decision"] is not None
    assert client.event("payments", rows[0]["payment_id"])["labels"][0]["value"] == 1.0


def test_a_dry_run_stores_nothing(client, served):
    told = client.post(INGEST, {"records": {"payments": [{"record": payments()[0]}]}, "dry_run": True})
    assert told["ingestMetrics"]["sourceIngestMetrics"][0]["recordIngestCount"] == "1"
    assert served.runtime.store.next_position == 0


def test_refused_rows_are_told_and_the_others_taken(served):
    body = {"records": {"payments": [{"record": payments()[0]}, {"record": {"payment_id": "x"}}]}}
    answer = httpx.post(served.url + INGEST, json=body)
    assert answer.status_code == 200
    (error,) = answer.json()["recordErrors"]
    assert (error["pushSourceName"], error["errorType"], error["recordIndex"]) == (
        "payments",
        "missing_field",
        1,
    )
    body["records"]["payments"] = body["records"]["payments"][1:]
    assert httpx.post(served.url + INGEST, json=body).status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"records": {"nowhere": [{"record": {}}]}}, 404),
        ({"records": {"payments": [{}]}}, 400),
        ({"records": {"payments": [{"record": {}}] * 10_001}}, 413),
    ],
)
def test_errors_of_ingest_have_their_form(shop, body, status):
    answer = httpx.post(shop.url + INGEST, json=body)
    assert answer.status_code == status
    assert answer.json()["requestError"]["errorMessage"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"records":{"payments":[{"record":{"amount":NaN}}]}}', b"[" * 9999]
)
def test_what_is_no_json_is_refused(shop, body):
    answer = httpx.post(shop.url + INGEST, content=body)
    assert answer.status_code == 400
    assert answer.json()["requestError"]["errorType"] == "RequestValidationError"


def test_rows_are_taken_as_they_are_written(served):
    row = json.dumps(payments(1, 9)[0], indent=2)
    body = f'{{"records": {{"payments": [{{"record":\n{row}\r\n}}, {{"record": 7}}]}}}}'
    answer = httpx.post(served.url + INGEST, content=body)
    told = answer.json()
    assert told["ingestMetrics"]["sourceIngestMetrics"][0]["recordIngestCount"] == "1", answer.text
    assert [one["recordIndex"] for one in told["recordErrors"]] == [1]


def test_nothing_at_all_is_fine(client):
    assert client.post(INGEST, {"records": {}}) == {"ingestMetrics": {"sourceIngestMetrics": []}}


def second_amount(text):
    """Two rows, the second with this amount."""
    rows = [{"record": row} for row in payments(2)]
    rows[1]["record"]["amount"] = "AMOUNT"
    return json.dumps({"records": {"payments": rows}}).replace('"AMOUNT"', text)


def test_a_number_that_no_float_holds_is_refused_by_itself(served):
    answer = httpx.post(served.url + INGEST, content=second_amount("1e400"))
    assert answer.status_code == 200
    (error,) = answer.json()["recordErrors"]
    assert (error["recordIndex"], error["errorType"]) == (1, "number_out_of_range")
    assert served.runtime.store.next_position == 1


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_know_is_no_null_but_no_body(served, text):
    answer = httpx.post(served.url + INGEST, content=second_amount(text))
    assert answer.status_code == 400
    assert served.runtime.store.next_position == 0


def test_of_several_sources_what_was_not_taken_is_told(served, monkeypatch):
    ask, full = served.platform.asker.ask, {"chargebacks"}

    async def asked(source, *arguments, **options):
        if source in full:
            raise OverloadError("20000 events wait", retry_after_s=1.0)
        return await ask(source, *arguments, **options)

    monkeypatch.setattr(served.platform.asker, "ask", asked)
    row = payments()[0]
    label = {"payment_id": row["payment_id"], "is_fraud": True, "reported_at": "2025-03-04T00:00:00Z"}
    body = {"records": {"payments": [{"record": row}], "chargebacks": [{"record": label}] * 2}}
    answer = httpx.post(served.url + INGEST, json=body)
    assert answer.status_code == 200
    assert answer.json()["ingestMetrics"]["sourceIngestMetrics"] == [
        {"sourceName": "payments", "recordIngestCount": "1"},
        {"sourceName": "chargebacks", "recordIngestCount": "0"},
    ]
    assert [(one["errorType"], one["recordIndex"]) for one in answer.json()["recordErrors"]] == [
        ("overloaded", 0),
        ("overloaded", 1),
    ]
    full.add("payments")
    answer = httpx.post(served.url + INGEST, json=body)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert served.runtime.store.next_position == 1
