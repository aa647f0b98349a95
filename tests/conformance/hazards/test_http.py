"""The hazard corpus over HTTP: the verdicts of every other way in, no 5xx, and the next good event is taken."""

import json
import shutil
from pathlib import Path

import httpx
import pytest

import penstock
from penstock.core.errors import InputError
from penstock.testing.clock import ManualClock
from penstock.testing.serving import serving_project
from tests.conformance.hazards.corpus import CASES, DICT, GOOD, JSON, NOW_US, Case

NDJSON = {"Content-Type": "application/x-ndjson"}
PATH = "/v1/endpoints/checkout/score"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("hazards")
    shutil.copy(Path(__file__).with_name("definitions.py"), root / "definitions.py")
    (root / "penstock.toml").write_text("[engine]\ndurability = 'process'\n")
    with serving_project(root, clock=ManualClock(NOW_US)) as served:
        yield served


@pytest.fixture(scope="module")
def http(served):
    with httpx.Client(base_url=served.url, timeout=60) as http:
        yield http


def good(name):
    return Case("good", None, event={**GOOD, "id": name}).json_line


def cases(way):
    return [pytest.param(case, id=case.name) for case in CASES if way in case.ways]


def reasons(answers):
    assert all(one["status"] in {"scored", "duplicate", "rejected"} for one in answers), answers
    return [one.get("reason") for one in answers]


def check_lines(http, case):
    body = b"\n".join([good(f"before {case.name}"), case.json_line, good(f"after {case.name}")])
    answer = http.post(PATH, content=body, headers=NDJSON)
    assert answer.status_code == 200, answer.text[:500]
    assert reasons(answer.json()["answers"]) == [None, case.verdict_when_live, None]


@pytest.mark.parametrize("case", cases(JSON))
def test_lines_of_json(http, case):
    check_lines(http, case)


@pytest.mark.parametrize("case", cases(JSON))
def test_one_event_as_a_body(http, case):
    answer = http.post(PATH, content=case.json_line, headers={"Content-Type": "application/json"})
    assert answer.status_code < 500, answer.text[:500]
    if case.json_line.strip().startswith(b"["):
        return  # a list of events, not one
    if case.verdict_when_live is None:
        assert answer.json()["status"] in {"scored", "duplicate"}
    else:
        assert answer.status_code in {413, 422}
        assert len(answer.content) < 2048
        told = answer.json()
        found = told.get("answer", {}).get("reason") or told["type"].rpartition(":")[2]
        assert found in {case.verdict_when_live, "too_large", "body_too_large"}
    assert http.post(PATH, content=good(f"next {case.name}")).json()["status"] in {"scored", "duplicate"}


@pytest.mark.parametrize("case", [case for case in cases(DICT) if JSON in case.values[0].ways])
def test_dicts_through_the_client(served, case):
    event = {**case.event, "id": f"dict {case.name}"} if "id" in case.event else case.event
    if case.event.get("id") != case.name:
        event = case.event  # the id is the hazard
    with penstock.Client(served.url, timeout=60) as client:
        assert reasons(client.score("checkout", [event])) in (
            [case.verdict_when_live],
            ["conflict"][: not case.reason],
        )


def test_what_the_client_cannot_write_never_leaves_it(served):
    with penstock.Client(served.url, timeout=60) as client:
        for event in ({**GOOD, "other": object()}, {**GOOD, "card": b"c-1"}):
            with pytest.raises(InputError, match="events"):
                client.score("checkout", event)


def test_every_refused_line_is_a_dead_letter_with_its_bytes(served, http):
    name = "kept over http"
    line = json.dumps({**GOOD, "id": name, "amount": "twelve"}).encode()
    http.post(PATH, content=line)
    with penstock.Client(served.url) as client:
        newest = client.dead_letters(limit=1)["items"][0]
        assert client.dead_letter(newest["id"])["text"].encode() == line
    counters = served.runtime.store.counters()
    assert counters["received"] == counters["scored"] + counters["rejected"] + counters.get("duplicate", 0)


def test_a_planted_wrong_verdict_is_caught(http):
    with pytest.raises(AssertionError):
        check_lines(http, Case("planted", None, event={**GOOD, "id": "planted", "amount": True}))
