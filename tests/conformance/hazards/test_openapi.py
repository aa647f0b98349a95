"""Requests made from the OpenAPI document, as every role: no 5xx, no status that the document does not name, nothing done without a scope.

Names of what there is are put into paths as often as not, so that it is not all 404.
"""

import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from penstock.app.api_keys import create_key
from penstock.core.clock import SystemClock
from penstock.serving.access import PUBLIC, ROUTES
from penstock.serving.jobs import Jobs
from tests.unit.app import arms
from tests.unit.serving.shop_server import arms_project, asking

DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.json"
ENDLESS = "/v1/decisions/stream"
"""It is asked for itself: it goes on for as long as somebody reads."""

NEEDED = {(method, path.replace(":path", "")): scope for (method, path), scope in ROUTES.items()}
ROLES = ("none", "read", "score", "write", "admin")
LETTERS = 50
SHOWN = 400


def operations():
    schema = schemathesis.openapi.from_path(str(DOCUMENT))
    found = [one.ok() for one in schema.get_all_operations()]
    return {one.label: one for one in found if one.path != ENDLESS}


OPERATIONS = operations()


class Running:
    """A project with events, versions, jobs and dead letters, and a key for each role."""

    def __init__(self, served, root):
        self.url = served.url
        self.session = requests.Session()
        self.headers = {"none": {}}
        for role in ROLES[1:]:
            _, key = create_key(root, f"the {role}", [role], actor="ann", reason="test", clock=SystemClock())
            self.headers[role] = {"Authorization": f"Bearer {key}"}
        self.names = self.known()

    def known(self):
        """What path parameters may name."""
        with httpx.Client(base_url=self.url, headers=self.headers["admin"], timeout=60) as http:
            return self._made(http)

    def _made(self, http):
        rows = [{**one, "at": one["at"].isoformat()} for one in arms.events(0, 60)]
        lines = "\n".join(map(json.dumps, [*rows, *({"id": f"bad{i}"} for i in range(LETTERS))]))
        ndjson = {"content-type": "application/x-ndjson"}
        http.post("/v1/endpoints/checkout/score", content=lines, headers=ndjson).raise_for_status()
        asked = {"kind": "metrics", "params": {"endpoint": "checkout"}}
        job = http.post("/v1/jobs", json=asked).raise_for_status().json()["id"]
        letters = [one["id"] for one in http.get("/v1/dead-letters").json()["items"]]
        catalog = [one["name"] for one in http.get("/v1/catalog").json()["items"]]
        return {
            "endpoint": ["checkout"],
            "model": ["fraud", "narrow"],
            "version": ["1", "2", "champion", "previous"],
            "source": ["payments", "frauds"],
            "view": ["spending"],
            "service": ["small", "wide"],
            "name": catalog or ["spending"],
            "event_id": ["e7", "e8"],
            "job": [job],
            "letter_id": letters,
        }


JOBS_S = 300
FIGURES = ("metrics", "curves", "drift", "distributions", "experiment")


def make_figures(served):
    """What jobs of the real kind make, so that there is something to show."""
    jobs = served.platform.jobs
    for kind in FIGURES:
        httpx.get(f"{served.url}/v1/endpoints/checkout/{kind}").raise_for_status()
    until = time.monotonic() + JOBS_S
    while not all(job.ended for job in jobs.all()):
        assert time.monotonic() < until, "the jobs do not end"
        time.sleep(0.1)
    assert {job.state for job in jobs.all()} <= {"succeeded", "failed"}


@contextmanager
def running(folder, *, figures):
    """The project; where no figures are to be made, jobs begin and do not end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
        root = arms_project(folder)
        with asking(root) as (served, _):
            if figures:
                make_figures(served)
            served.platform.jobs.close()
            sleeping = [sys.executable, "-S", "-c", "import time; time.sleep(3600)"]
            served.platform.jobs = Jobs(root, clock=served.runtime.clock, command=sleeping, at_once=1)
            shop = Running(served, root)
            yield shop
            shop.session.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with running(tmp_path_factory.mktemp("fuzzed"), figures=False) as shop:
        yield shop


@pytest.fixture(scope="module")
def shop_with_figures(tmp_path_factory):
    with running(tmp_path_factory.mktemp("fuzzed"), figures=True) as shop:
        yield shop


def cases(operation):
    """Requests that the document allows, and such as it does not."""
    kinds = [operation.as_strategy(generation_mode=GenerationMode.POSITIVE)]
    try:
        negative = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        negative.validate()
        kinds.append(negative)
    except Exception:  # noqa: BLE001 - of what has no parameters nothing can be wrong; the library says so in many ways
        pass
    return st.one_of(kinds)


def check(shop, case, role):
    """One request, and what may be said of its answer."""
    answer = case.call(
        base_url=shop.url, session=shop.session, headers=shop.headers[role], timeout=60, allow_redirects=False
    )
    told = f"{case.method} {answer.request.url} as {role}: {answer.status_code} {answer.text[:SHOWN]}"
    method, path = case.operation.method.upper(), case.operation.path
    assert answer.status_code < 500, told
    documented = set(case.operation.definition.raw["responses"])
    assert str(answer.status_code) in documented, told
    needed = NEEDED.get((method, path))
    if needed is None:
        assert (method, path) in PUBLIC
    elif role == "none":
        assert answer.status_code in {400, 401, 413, 431}, told
    elif role not in {needed.value, "admin"}:
        assert answer.status_code in {400, 403, 413, 431}, told


def fuzz(shop, label, examples, *, seeded):
    """So many requests of an operation for each role; `admin`, who gets furthest, makes four times as many."""
    for role in ROLES:
        count = examples * (4 if role == "admin" else 1)
        quick = settings(
            max_examples=count,
            deadline=None,
            database=None,
            derandomize=seeded,
            suppress_health_check=list(HealthCheck),
        )
        quick(asking_as(shop, OPERATIONS[label], role))()


def asking_as(shop, operation, role):
    @given(case=cases(operation), data=st.data())
    def ask(case, data):
        for name in case.path_parameters or {}:
            known = data.draw(st.sampled_from([None, *shop.names.get(name, [])]), label=name)
            if known is not None:
                case.path_parameters[name] = known
        check(shop, case, role)

    return ask


@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_no_request_of_any_role_breaks_anything(shop, label):
    fuzz(shop, label, 2, seeded=True)


@pytest.mark.nightly
@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_no_request_of_any_role_breaks_anything_at_length(shop_with_figures, label):
    fuzz(shop_with_figures, label, 60, seeded=False)


@pytest.mark.parametrize("role", ROLES)
def test_the_endless_stream_needs_its_scope(shop, role):
    with shop.session.get(shop.url + ENDLESS, headers=shop.headers[role], stream=True, timeout=30) as answer:
        assert answer.status_code == {"none": 401, "read": 200, "admin": 200}.get(role, 403)


def test_an_answer_that_the_document_does_not_name_is_found(shop, monkeypatch):
    """The test can fail: a planted status, and a planted 5xx."""
    operation = OPERATIONS["GET /v1/version"]
    case = operation.Case()
    check(shop, case, "read")
    monkeypatch.delitem(operation.definition.raw["responses"], "200")
    with pytest.raises(AssertionError, match="200"):
        check(shop, case, "read")
