"""Jobs over HTTP."""

import json

import pytest

from penstock.app.api_keys import create_key
from penstock.core.clock import SystemClock
from penstock.serving.jobs import Jobs
from penstock.serving.routes import jobs as job_routes
from tests.unit.serving.shop_server import WHY, arms_project, asking, child_command
from tests.unit.serving.test_jobs import until


@pytest.fixture(autouse=True)
def no_child(monkeypatch):
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A project whose jobs end at once."""
    folder = tmp_path_factory.mktemp("jobs")
    with asking(arms_project(folder)) as (served, client):
        served.platform.jobs.close()
        command = child_command(folder)
        served.platform.jobs = Jobs(folder, clock=served.runtime.clock, command=command, at_once=2)
        yield served, client


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_job_from_its_beginning_to_its_end(shop):
    _served, client = shop
    answer = client.post("/v1/jobs", json={"kind": "metrics", "params": {"endpoint": "checkout"}})
    job = ok(answer, 202)
    path = answer.headers["location"]
    assert path == f"/v1/jobs/{job['id']}"
    until(lambda: ok(client.get(path))["state"] == "succeeded")
    detail = ok(client.get(path))
    assert (detail["result"]["of"], detail["actor"]) == ("metrics", "local")
    assert detail["started"].endswith("Z")


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({"kind": "nothing", "params": {}}, 422, "kind"),
        ({"kind": "metrics", "params": {}}, 422, "params.endpoint"),
        ({"kind": "metrics", "params": {"endpoint": "checkout", "path": "/etc/passwd"}}, 422, "params.path"),
        ({"kind": "metrics", "params": {"endpoint": "nothing"}}, 404, "checkout"),
        ({"kind": "metrics", "params": {"endpoint": "checkout", "as_of": "never"}}, 422, "params.as_of"),
        ({"kind": "backtest", "params": {"endpoint": "checkout", "models": ["fraud:9"]}}, 404, "fraud"),
        (
            {"kind": "backtest", "params": {"endpoint": "checkout", "models": ["../x:1"]}},
            422,
            "params.models",
        ),
        (
            {"kind": "backtest", "params": {"endpoint": "checkout", "definitions": "/tmp"}},
            422,
            "params.definitions",
        ),
        ({"kind": "gate", "params": {"model": "fraud", "version": "1"}}, 422, "reason"),
        ({"kind": "gate", "params": {"model": "fraud", "version": "9"}, **WHY}, 404, "fraud"),
        ({"kind": "retrain", "params": {"model": "nothing"}, **WHY}, 404, "fraud"),
        ({"kind": "dataset", "params": {"service": "nothing"}, **WHY}, 404, "small"),
        ({"kind": "rows", "params": {"dataset": "x"}}, 422, "kind"),
    ],
)
def test_what_cannot_begin_is_refused_before(shop, asked, status, told):
    served, client = shop
    before = len(served.platform.jobs.all())
    assert told in ok(client.post("/v1/jobs", json=asked), status)["detail"]
    assert len(served.platform.jobs.all()) == before


def test_every_kind_is_described(shop):
    _, client = shop
    kinds = {one["kind"]: one for one in ok(client.get("/v1/jobs/kinds"))}
    assert {"metrics", "drift", "backtest", "dataset", "retrain", "gate"} <= set(kinds)
    assert kinds["retrain"]["changes"]
    assert "endpoint" in kinds["backtest"]["params"]["properties"]
    assert all(one["text"] for one in kinds.values())


def test_what_changes_something_is_in_the_audit_log(shop):
    _served, client = shop
    asked = {"kind": "retrain", "params": {"model": "fraud"}, **WHY}
    job = ok(client.post("/v1/jobs", json=asked), 202)
    row = ok(client.get("/v1/audit", params={"action": "job.begin"}))["items"][0]
    assert (row["subject"], row["reason"], row["detail"]["job"]) == ("retrain", "a test", job["id"])


def test_jobs_are_listed_by_page_and_kind(shop):
    served, client = shop
    for _ in range(3):
        served.platform.jobs.submit("drift", {}, actor="ann")
    until(lambda: all(job.ended for job in served.platform.jobs.all()))
    seen, cursor = [], None
    while True:
        asked = {"limit": 2, "kind": "drift"} | ({"cursor": cursor} if cursor else {})
        page = ok(client.get("/v1/jobs", params=asked))
        seen += [one["id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen)) == 3
    assert ok(client.get("/v1/jobs", params={"state": "queued"}))["items"] == []
    ok(client.get("/v1/jobs", params={"state": "lost"}), 422)


def test_a_job_is_cancelled_with_a_reason(shop, tmp_path):
    served, client = shop
    job = served.platform.jobs.submit("drift", {"until": "/nowhere"}, actor="ann")
    until(lambda: job.state == "running")
    ok(client.delete(f"/v1/jobs/{job.id}"), 422)
    ok(client.delete(f"/v1/jobs/{job.id}", params=WHY))
    until(lambda: job.state == "cancelled")
    row = ok(client.get("/v1/audit", params={"action": "job.cancel"}))["items"][0]
    assert (row["reason"], row["detail"]) == ("a test", {"job": job.id})
    assert ok(client.delete(f"/v1/jobs/{job.id}", params=WHY))["state"] == "cancelled"
    assert len(ok(client.get("/v1/audit", params={"action": "job.cancel"}))["items"]) == 1
    ok(client.delete("/v1/jobs/job-nothing", params=WHY), 404)


def read(lines):
    """The data of server-sent events."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_a_job_is_watched_to_its_end(shop, tmp_path):
    served, client = shop
    go = tmp_path / "go"
    job = served.platform.jobs.submit("drift", {"steps": 2, "until": str(go)}, actor="ann")
    with client.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = read(answer.iter_lines())
        while next(events)["progress"]["done"] < 2:
            pass
        assert served.platform.job_watchers == 1
        go.touch()
        rest = list(events)
    assert rest[-1]["state"] == "succeeded"
    until(lambda: not served.platform.job_watchers)
    ok(client.get("/v1/jobs/job-nothing/events"), 404)


def test_who_stops_watching_is_forgotten(shop, monkeypatch):
    served, client = shop
    job = served.platform.jobs.submit("drift", {"until": "/nowhere"}, actor="ann")
    monkeypatch.setattr(job_routes, "WATCHERS", 1)
    with client.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
        events = read(answer.iter_lines())  # while somebody holds it the stream is open
        next(events)
        ok(client.get(f"/v1/jobs/{job.id}/events"), 429)
    until(lambda: not served.platform.job_watchers)
    served.platform.jobs.cancel(job)
    until(lambda: job.ended)
    assert client.get(f"/v1/jobs/{job.id}/events").status_code == 200


def test_a_failed_job_says_why(shop):
    served, client = shop
    job = served.platform.jobs.submit("drift", {"exit": 3, "stderr": "no memory"}, actor="ann")
    until(lambda: job.ended)
    found = ok(client.get(f"/v1/jobs/{job.id}"))
    assert (found["state"], found["result"], found["log"]) == ("failed", None, "no memory")
    assert found["error"]["type"] == "urn:penstock:problem:job"


def test_beyond_what_may_wait_is_refused(shop, tmp_path):
    served, client = shop
    full = Jobs(tmp_path, clock=served.runtime.clock, command=child_command(tmp_path), at_once=1, waiting=0)
    before, served.platform.jobs = served.platform.jobs, full
    try:
        answer = client.post("/v1/jobs", json={"kind": "metrics", "params": {"endpoint": "checkout"}})
        assert "at most 0 may" in ok(answer, 429)["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        served.platform.jobs = before


@pytest.fixture(scope="module")
def locked(locked_jobs):
    """A project with keys, by scope."""
    return locked_jobs[1:]


@pytest.fixture(scope="module")
def locked_jobs(tmp_path_factory):
    """The same, and its jobs."""
    folder = tmp_path_factory.mktemp("locked")
    root = arms_project(folder)
    keys = {
        scope: create_key(root, f"the {scope}", [scope], actor="ann", reason="test", clock=SystemClock())[1]
        for scope in ("read", "write", "admin")
    }
    with asking(root) as (served, client):
        served.platform.jobs.close()
        command = child_command(folder)
        served.platform.jobs = Jobs(folder, clock=served.runtime.clock, command=command, at_once=1)
        yield (
            served.platform.jobs,
            client,
            {scope: {"Authorization": f"Bearer {key}"} for scope, key in keys.items()},
        )


@pytest.mark.parametrize(
    ("method", "path", "body", "needs"),
    [
        ("GET", "/v1/endpoints/checkout/metrics", None, "read"),
        ("POST", "/v1/jobs", {"kind": "backtest", "params": {"endpoint": "checkout"}}, "write"),
        ("POST", "/v1/jobs", {"kind": "gate", "params": {"model": "fraud", "version": "2"}, **WHY}, "write"),
        ("POST", "/v1/jobs", {"kind": "retrain", "params": {"model": "fraud"}, **WHY}, "admin"),
        (
            "POST",
            "/v1/jobs",
            {"kind": "promote", "params": {"model": "fraud", "version": "2"}, **WHY},
            "admin",
        ),
        ("POST", "/v1/models/fraud/versions/2/promote", WHY, "admin"),
        ("POST", "/v1/models/fraud/rollback", WHY, "admin"),
        ("PUT", "/v1/endpoints/checkout/weights", WHY | {"weights": {"champion": 3}}, "admin"),
    ],
)
def test_what_puts_a_version_into_use_needs_admin(locked, method, path, body, needs):
    client, keys = locked
    order = ["read", "write", "admin"]
    for scope in order:
        status = client.request(method, path, json=body, headers=keys[scope]).status_code
        allowed = order.index(scope) >= order.index(needs)
        # write does not include read: each says what it is for
        assert (status == 403) == (not allowed or (needs, scope) == ("read", "write")), (scope, status)


def test_the_history_names_who_acted(locked):
    client, keys = locked
    body = WHY | {"weights": {"champion": 5}}
    ok(client.put("/v1/endpoints/checkout/weights", json=body, headers=keys["admin"]))
    rows = ok(client.get("/v1/endpoints/checkout/weights", headers=keys["read"]))["items"]
    assert rows[0]["actor"] == "the admin"


@pytest.mark.parametrize(
    ("kind", "needs"), [("backtest", "write"), ("promote", "admin"), ("retrain", "admin")]
)
def test_who_may_not_begin_a_job_may_not_cancel_it(locked_jobs, kind, needs):
    jobs, client, keys = locked_jobs
    order = ["read", "write", "admin"]
    for scope in order:
        job = jobs.submit(kind, {"until": "/nowhere"}, actor="ann")
        status = client.delete(f"/v1/jobs/{job.id}", params=WHY, headers=keys[scope]).status_code
        assert (status == 200) == (order.index(scope) >= order.index(needs)), scope
        assert status in {200, 403}
        jobs.cancel(job)
        until(lambda: job.ended)  # noqa: B023 - at once


def test_a_job_that_changes_something_is_in_the_audit_log_before_it_begins(shop, monkeypatch):
    served, client = shop
    before, kept = len(served.platform.jobs.all()), served.platform.runtime.routes.audit.append

    def append(action, *arguments, **options):
        assert len(served.platform.jobs.all()) == before, "it waits already"
        return kept(action, *arguments, **options)

    monkeypatch.setattr(served.platform.runtime.routes.audit, "append", append)
    asked = {"kind": "retrain", "params": {"model": "fraud"}, **WHY}
    job = ok(client.post("/v1/jobs", json=asked), 202)
    monkeypatch.undo()
    row = ok(client.get("/v1/audit", params={"action": "job.begin"}))["items"][0]
    assert row["detail"]["job"] == job["id"]
