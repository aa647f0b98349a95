"""Models over HTTP: looking at them, and moving them while events are scored."""

import threading

import pytest

from penstock.models.gates import GateReport
from penstock.models.versions import report_title
from tests.unit.serving.shop_server import WHY, arms_project, asking, events, template


@pytest.fixture(autouse=True)
def no_child(monkeypatch):
    """The process that checks a version before it is loaded has tests of its own, and takes a second each time."""
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)


@pytest.fixture
def shop(tmp_path):
    with asking(arms_project(tmp_path)) as (served, client):
        yield served, client


@pytest.fixture(scope="module")
def looking():
    """The template's project, for looking only."""
    with asking(template()) as (_, client):
        yield client


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json()


def test_models_and_their_versions(looking):
    (model,) = ok(looking.get("/v1/models"))["items"]
    assert model == ok(looking.get("/v1/models/fraud"))
    assert (model["champion"], model["versions"], model["endpoints"]) == ("fraud:1", 2, ["checkout"])
    page = ok(looking.get("/v1/models/fraud/versions", params={"limit": 1}))
    assert [one["version"] for one in page["items"]] == ["fraud:2"]
    rest = ok(looking.get("/v1/models/fraud/versions", params={"cursor": page["next"]}))
    assert [one["version"] for one in rest["items"]] == ["fraud:1"]
    assert rest["next"] is None
    assert rest["items"][0]["metrics"]["roc_auc"] > 0.9
    assert rest["items"][0]["created"].endswith("Z")


def test_one_version_with_pictures_and_profile(looking):
    found = ok(looking.get("/v1/models/fraud/versions/champion"))
    assert found["version"] == "fraud:1"
    assert found["manifest"]["data"]["rows"] > 1000
    assert set(found["plots"]) == {"calibration.png", "precision_recall.png", "roc.png"}
    for name in found["plots"]:
        picture = looking.get(f"/v1/models/fraud/versions/1/plots/{name}")
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
        assert picture.content.startswith(b"\x89PNG")
    columns = ok(looking.get("/v1/models/fraud/versions/1/profile"))
    assert {one["role"] for one in columns} == {"feature", "score", "label"}
    lineage = ok(looking.get("/v1/models/fraud/versions/2/lineage"))
    assert lineage["parent"] == "fraud:1"
    assert lineage["life"][0]["action"] == "register"


def test_what_was_live_at_a_time(looking):
    history = ok(looking.get("/v1/models/fraud/history"))
    assert [row["action"] for row in history["items"]] == ["register", "promote", "register"]
    assert history["live"] is None
    since = history["items"][1]["time"]
    then = ok(looking.get("/v1/models/fraud/history", params={"at": since}))
    assert (then["live"]["version"], then["since"]["gate"]) == ("fraud:1", "skipped: the first")
    assert ok(looking.get("/v1/models/fraud/history", params={"at": "2020-01-01"}))["live"] is None
    assert looking.get("/v1/models/fraud/history", params={"at": "yesterday"}).status_code == 422
    assert looking.get(
        "/v1/models/fraud/history", params={"at": "0001-01-01T00:00:00+14:00"}
    ).status_code in {200, 422}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/nothing",
        "/v1/models/nothing/versions",
        "/v1/models/nothing/history",
        "/v1/models/fraud/versions/9",
        "/v1/models/fraud/versions/challenger",
        "/v1/models/fraud/versions/1/plots/nothing.png",
        "/v1/models/fraud/versions/1/gates/0123456789abcdef",
    ],
)
def test_what_is_not_there(looking, path):
    assert ok(looking.get(path), 404)["type"] == "urn:penstock:problem:not_found"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "ImEi"}, "another list"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
    ],
)
def test_a_wrong_page(looking, asked, told):
    assert told in ok(looking.get("/v1/models/fraud/versions", params=asked), 422)["detail"]


def test_promote_roll_back_and_archive_are_live_at_once(shop):
    served, client = shop

    def deciding():
        deciding.calls += 1
        asked = events(0, 50, prefix=f"x{deciding.calls}-")
        found = ok(client.post("/v1/endpoints/checkout/score", json=asked))["answers"]
        return {one["model"] for one in found if one["arm"] == "champion"}

    deciding.calls = 0
    assert deciding() == {"fraud:1"}
    moved = ok(client.post("/v1/models/fraud/versions/2/promote", json=WHY | {"force": True}))
    assert moved["version"]["stage"] == "Production"
    assert moved["serving"]["checkout"]["champion"] == "fraud:2"
    assert not moved["problems"]
    assert deciding() == {"fraud:2"}
    assert ok(client.post("/v1/models/fraud/rollback", json=WHY))["version"]["version"] == "fraud:1"
    assert deciding() == {"fraud:1"}
    ok(client.post("/v1/models/fraud/versions/2/promote", json=WHY | {"stage": "Staging"}))
    ok(client.post("/v1/models/fraud/versions/2/archive", json=WHY))
    assert "challenger" not in ok(client.post("/v1/reload"))["serving"]["checkout"]
    rows = ok(client.get("/v1/models/fraud/history"))["items"]
    assert [row["action"] for row in rows[:4]] == ["archive", "promote", "rollback", "promote"]
    assert {row["actor"] for row in rows[:4]} == {"local"}
    assert rows[3]["gate"] == "skipped: a test"
    assert served.runtime.registry.verify()


def test_versions_move_while_events_are_scored(shop):
    served, client = shop
    stop, failures, models = threading.Event(), [], set()

    def score():
        number = 0
        while not stop.is_set():
            asked = events(0, 20, prefix=f"s{number}-")
            answer = client.post("/v1/endpoints/checkout/score", json=asked)
            if answer.status_code != 200:
                failures.append(answer.text)
            else:
                models.update(one["model"] for one in answer.json()["answers"])
                failures.extend(one for one in answer.json()["answers"] if one["status"] != "scored")
            number += 1

    thread = threading.Thread(target=score)
    thread.start()
    for _ in range(10):
        ok(client.post("/v1/models/fraud/versions/2/promote", json=WHY | {"force": True}))
        ok(client.post("/v1/models/fraud/rollback", json=WHY))
    stop.set()
    thread.join()
    assert not failures
    assert {"fraud:1", "fraud:2"} <= models
    assert not served.runtime.problems


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"reason": ""},
        {"reason": "  "},
        {"reason": "x" * 501},
        WHY | {"stage": "None"},
        WHY | {"gate": "../x"},
        WHY | {"to": 1},
    ],
)
def test_a_move_needs_a_reason(shop, asked):
    served, client = shop
    before = served.runtime.registry.head()
    for path in ("versions/2/promote", "versions/2/archive", "rollback"):
        if path == "versions/2/promote" or "stage" not in asked:
            ok(client.post(f"/v1/models/fraud/{path}", json=asked), 422)
    assert served.runtime.registry.head() == before


def test_a_promotion_by_a_report(shop):
    served, client = shop
    registry = served.runtime.registry
    digests = {v.version: v.digest for v in registry.versions("fraud")}

    def report(verdict, champion):
        found = GateReport(
            verdict, "fraud:2", digests[2], champion, digests[1] if champion else None, {}, {}, {}, (), 5
        )
        registry.attach("fraud", 2, report_title(found.digest), found.to_bytes())
        return found.digest

    passed, failed, other = report("pass", "fraud:1"), report("fail", "fraud:1"), report("pass", None)
    assert {one["verdict"] for one in ok(client.get("/v1/models/fraud/versions/2/gates"))} == {"pass", "fail"}
    assert ok(client.get(f"/v1/models/fraud/versions/2/gates/{passed[:16]}"))["digest"] == passed
    for digest in (failed, other):
        assert ok(client.post("/v1/models/fraud/versions/2/promote", json=WHY | {"gate": digest}), 409)
    ok(client.post("/v1/models/fraud/versions/2/promote", json=WHY | {"gate": "0" * 64}), 404)
    moved = ok(client.post("/v1/models/fraud/versions/2/promote", json=WHY | {"gate": passed}))
    assert moved["serving"]["checkout"]["champion"] == "fraud:2"
    assert registry.history("fraud")[-1].gate == passed


def test_a_changed_report_is_found(shop):
    served, client = shop
    registry = served.runtime.registry
    found = GateReport("pass", "fraud:2", "", None, None, {}, {}, {}, (), 5)
    registry.attach("fraud", 2, report_title(found.digest), found.to_bytes() + b" ")
    assert "was changed" in ok(client.get(f"/v1/models/fraud/versions/2/gates/{found.digest}"), 503)["detail"]


def test_without_a_verdict_a_job_judges(shop, tmp_path):
    served, client = shop
    answer = client.post("/v1/models/fraud/versions/2/promote", json=WHY)
    job = ok(answer, 202)
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["params"]) == ("promote", {"model": "fraud", "version": "2"})
    (row,) = ok(client.get("/v1/audit", params={"action": "job.begin"}))["items"]
    assert (row["subject"], row["reason"], row["detail"]["job"]) == ("promote", "a test", job["id"])
    assert served.runtime.registry.get("fraud", "champion").version == 1
