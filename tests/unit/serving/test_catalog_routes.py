"""What is defined, data sets and the audit log over HTTP."""

import io
import json
import sqlite3

import pyarrow.parquet as pq
import pytest

from penstock.app.agreements import agreements
from penstock.app.catalog import catalog
from penstock.app.datasets import DatasetFolder, rebuild_dataset
from penstock.app.runtime import plan_of
from penstock.core.time import to_us
from penstock.definitions.project import load_project
from penstock.plan.describe import describe
from tests.unit.app import arms
from tests.unit.serving.shop_server import WHY, arms_project, asking, events, template


@pytest.fixture(scope="module")
def looking():
    with asking(template()) as (served, client):
        yield served, client


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json()


def test_sources_with_schema_and_freshness(looking):
    _, client = looking
    found = {one["name"]: one for one in ok(client.get("/v1/sources"))["items"]}
    assert list(found) == ["chargebacks", "payments"]
    payments = found["payments"]
    assert payments == ok(client.get("/v1/sources/payments")) | {"age_s": payments["age_s"]}
    assert (payments["rows"], payments["id_field"], payments["time_field"]) == (5250, "payment_id", "paid_at")
    assert payments["newest_event"].startswith("2025-04-04T")
    assert payments["age_s"] >= 0
    assert found["chargebacks"]["label_of"] == "payments"
    ok(client.get("/v1/sources/nothing"), 404)


def test_freshness_goes_on_with_the_log(tmp_path):
    with asking(arms.write_project(tmp_path)) as (_, client):
        none = ok(client.get("/v1/sources/payments"))
        assert (none["rows"], none["newest_event"], none["age_s"]) == (0, None, None)
        for start, count in ((0, 10), (10, 1), (11, 7)):
            ok(client.post("/v1/sources/payments/events", json=events(start, count)))
            found = ok(client.get("/v1/sources/payments"))
            assert found["rows"] == start + count
            newest = to_us(arms.events(start + count - 1, 1)[0]["at"])
            from datetime import datetime

            assert to_us(datetime.fromisoformat(found["newest_event"])) == newest


def test_the_catalog_is_that_of_the_command(looking):
    _, client = looking
    nodes, cursor = [], None
    while True:
        page = ok(client.get("/v1/catalog", params={"limit": 7} | ({"cursor": cursor} if cursor else {})))
        nodes += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    whole = catalog(template())
    assert {one["id"] for one in nodes} == set(whole.nodes)
    assert len(nodes) == len(whole.nodes)
    views = ok(client.get("/v1/catalog", params={"search": "card", "kind": ["view", "service"]}))["items"]
    assert {one["kind"] for one in views} <= {"view", "service"}
    entry = ok(client.get("/v1/catalog/card_spending"))
    assert "source:payments" in entry["upstream"]
    assert "endpoint:checkout" in entry["downstream"]
    assert {one["of"] for one in entry["parts"]} == {"view:card_spending"}
    ok(client.get("/v1/catalog/nothing"), 404)
    ok(client.get("/v1/catalog", params={"kind": "nothing"}), 422)


def test_lineage_as_nodes_and_edges(looking):
    _, client = looking
    assert ok(client.get("/v1/lineage")) == json.loads(json.dumps(catalog(template()).to_dict()))
    down = ok(client.get("/v1/lineage", params={"of": "card_spending", "upstream": False}))
    assert not any(one["kind"] == "source" for one in down["nodes"])
    ids = {one["id"] for one in down["nodes"]}
    assert all({edge["from"], edge["to"]} <= ids for edge in down["edges"])
    ok(client.get("/v1/lineage", params={"of": "nothing"}), 404)


def test_contracts_and_plan(looking):
    _, client = looking
    found = ok(client.get("/v1/contracts"))
    assert [one["source"] for one in found] == [one.source for one in agreements(template())]
    assert found[0]["versions"][0]["fields"][0]["name"] == "payment_id"
    assert len(ok(client.get("/v1/contracts", params={"source": "payments"}))) == 1
    ok(client.get("/v1/contracts", params={"source": "nothing"}), 404)
    plan = ok(client.get("/v1/plan"))
    described = describe(plan_of(load_project(template())))
    assert plan == json.loads(json.dumps({"project": plan["project"], **described}))
    text = client.get("/v1/plan", params={"format": "text", "name": "checkout"})
    assert text.headers["content-type"].startswith("text/plain")
    assert "checkout" in text.text
    ok(client.get("/v1/plan", params={"name": "nothing"}), 404)


def test_a_data_set_and_its_rows(looking):
    _, client = looking
    listed = ok(client.get("/v1/datasets"))["items"]
    record = DatasetFolder(template()).all()[-1]
    assert listed[0]["id"] == record.id
    found = ok(client.get(f"/v1/datasets/{record.id}"))
    assert (found["rows"], found["digest"]) == (record.rows, record.digest)
    expected = rebuild_dataset(template(), record.id).to_arrow()
    answer = client.get(f"/v1/datasets/{record.id}/rows")
    assert answer.status_code == 200
    assert f"{record.id}.parquet" in answer.headers["content-disposition"]
    assert pq.read_table(io.BytesIO(answer.content)).equals(expected)
    lines = client.get(f"/v1/datasets/{record.id}/rows", params={"format": "ndjson"}).content.splitlines()
    assert len(lines) == record.rows
    assert set(json.loads(lines[0])) == set(record.columns)
    ok(client.get("/v1/datasets/ds-000000000000"), 404)
    ok(client.get("/v1/datasets/ds-000000000000/rows"), 404)
    ok(client.get(f"/v1/datasets/{record.id}/rows", params={"format": "csv"}), 422)


def test_a_data_set_is_recorded_by_a_job(tmp_path):
    with asking(arms_project(tmp_path)) as (served, client):
        served.platform.jobs.close()  # what it would do has tests of its own
        ok(client.post("/v1/datasets", json={"service": "small"}), 422)
        ok(client.post("/v1/datasets", json=WHY | {"service": "nothing"}), 404)
        ok(client.post("/v1/datasets", json=WHY | {"service": "small"}), 429)


def test_the_audit_log_is_searched_and_verified(tmp_path):
    with asking(arms_project(tmp_path)) as (served, client):
        for weight in (1, 2, 3):
            ok(client.put("/v1/endpoints/checkout/weights", json=WHY | {"weights": {"narrow": weight}}))
        page = ok(client.get("/v1/audit", params={"limit": 2, "action": "route", "subject": "checkout"}))
        assert [row["sequence"] for row in page["items"]] == [3, 2]
        assert page["items"][0]["detail"]["weights"]["narrow"] == 3
        rest = ok(client.get("/v1/audit", params={"cursor": page["next"]}))
        assert [row["sequence"] for row in rest["items"]] == [1]
        assert ok(client.get("/v1/audit", params={"actor": "somebody"}))["items"] == []
        clean = ok(client.get("/v1/audit/verify"))
        assert (clean["clean"], clean["audit_rows"]) == (True, 3)
        assert clean["audit_head"] == served.runtime.routes.audit.head()[1]
        with sqlite3.connect(tmp_path / ".penstock" / "audit.db") as connection:
            connection.execute("DROP TRIGGER audit_is_never_changed")
            connection.execute("UPDATE audit SET reason = 'other' WHERE sequence = 2")
        connection.close()
        found = ok(client.get("/v1/audit/verify"))
        assert (found["clean"], found["audit_rows"]) == (False, None)
        assert "row 2" in found["problems"][0]
