"""Lists of keys over HTTP: changed while events are scored, with actor and reason, whole or not at all; the commands ask the server."""

import json
import shutil
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import penstock
from penstock.app.api_keys import create_key
from penstock.app.route_watch import running_notes
from penstock.app.runtime import audit_log_of
from penstock.cli.main import app
from penstock.core.errors import AccessError, InputError, NotFoundError
from penstock.testing.serving import serving_project
from tests.unit.serving.shop import CLOCK

PAYMENT = {
    "payment_id": "p0",
    "card_id": "c1",
    "email": "a@x.org",
    "paid_at": "2024-01-05T10:00:00Z",
    "amount": 9.5,
}
STOLEN = [{"key": {"card_id": "c1"}}]


@pytest.fixture
def project(tmp_path):
    return shutil.copytree(Path("examples/fraud/rules_project"), tmp_path / "rules")


@pytest.fixture
def served(project):
    with serving_project(project, clock=CLOCK) as served:
        yield served


@pytest.fixture
def client(served):
    with penstock.Client(served.url, actor="ann") as client:
        yield client


def scored(client, number):
    return client.score("checkout", {**PAYMENT, "payment_id": f"p{number}"})


def test_the_next_event_sees_a_change_and_names_the_version(client, project):
    assert scored(client, 1)["lists"] == {"trusted": 0, "blocked_cards": 0}
    done = client.change_list("blocked_cards", STOLEN, reason="stolen")
    assert done == {"changed": 1, "position": 1}
    answer = scored(client, 2)
    assert (answer["action"], answer["rule"], answer["lists"]["blocked_cards"]) == (
        "block",
        "blocked card",
        1,
    )
    assert scored(client, 1)["lists"]["blocked_cards"] == 0  # a duplicate: as decided
    event = client.event("payments", "p2")["decision"]
    assert (event["rule"], event["lists"]["blocked_cards"], len(event["policy_version"])) == (
        "blocked card",
        1,
        16,
    )
    assert [one["lists"]["blocked_cards"] for one in client.decisions()["items"]] == [1, 0]
    assert [(r.action, r.subject, r.actor, r.reason) for r in audit_log_of(project).rows()] == [
        ("list.change", "blocked_cards", "ann", "stolen")
    ]


def test_members_history_and_pages(client):
    client.change_list("blocked_cards", [{"key": {"card_id": f"c{i}"}} for i in range(5)], reason="many")
    client.change_list("blocked_cards", [{"key": {"card_id": "c1"}, "listed": False}], reason="found")
    until = "2024-02-01T00:00:00Z"
    client.change_list("trusted", [{"key": {"email": "a@x.org"}, "expires_at": until}], reason="vip")
    assert [(one["name"], one["version"]) for one in client.lists()["items"]] == [
        ("blocked_cards", 6),
        ("trusted", 1),
    ]
    first = client.list_members("blocked_cards", limit=3)
    rest = client.list_members("blocked_cards", limit=3, cursor=first["next"])
    assert [one["key"]["card_id"] for one in [*first["items"], *rest["items"]]] == ["c0", "c2", "c3", "c4"]
    assert client.list_members("blocked_cards", key="c1")["items"] == []
    (newest,) = client.list_changes("blocked_cards", limit=1)["items"]
    assert (newest["version"], newest["listed"], newest["actor"], newest["reason"]) == (
        6,
        False,
        "ann",
        "found",
    )
    assert client.list_members("trusted")["items"][0]["expires_at"] == until


def test_whole_or_not_at_all(client):
    for wrong in ({"card_id": 7}, {"card": "c1"}, {}):
        with pytest.raises(InputError):
            client.change_list("blocked_cards", [*STOLEN, {"key": wrong}], reason="x")
    with pytest.raises(InputError):
        client.change_list("blocked_cards", STOLEN, reason=" ")
    with pytest.raises(NotFoundError):
        client.change_list("nothing", STOLEN, reason="x")
    assert client.list_changes("blocked_cards")["items"] == []
    assert client.dead_letters()["items"] == []


def test_half_a_character_is_refused_and_not_an_error_of_ours(served):
    change = b'{"changes": [{"key": {"card_id": "\\ud800"}}], "reason": "x"}'
    with httpx.Client(base_url=served.url, headers={"Content-Type": "application/json"}) as http:
        assert http.post("/v1/lists/blocked_cards/changes", content=change).status_code == 422
        assert http.get("/v1/lists/blocked_cards?key=%C2%B2").json()["items"] == []


def test_changes_are_not_sent_as_events(client):
    row = {"card_id": "c1", "changed_at": "2024-01-01T00:00:00Z"}
    with pytest.raises(InputError, match="lists/blocked_cards/changes"):
        client.ingest("blocked_cards", [row])


def test_who_may_read_may_not_change(project):
    _, reading = create_key(project, "reader", ["read"], actor="ann", reason="test", clock=CLOCK)
    _, writing = create_key(project, "writer", ["read", "write"], actor="ann", reason="test", clock=CLOCK)
    with serving_project(project, clock=CLOCK) as served:
        with penstock.Client(served.url, key=reading) as client, pytest.raises(AccessError):
            client.change_list("blocked_cards", STOLEN, reason="x")
        with penstock.Client(served.url, key=writing) as client:
            client.change_list("blocked_cards", STOLEN, reason="x")
            assert client.list_changes("blocked_cards")["items"][0]["actor"] == "writer"


def test_the_commands_ask_the_server(served, client, project):
    until = time.monotonic() + 10
    while (notes := running_notes(project)) is None or notes.url != served.url:
        assert time.monotonic() < until
        time.sleep(0.02)

    def run(*arguments):
        done = CliRunner().invoke(app, ["lists", *arguments, "--project", str(project)])
        assert done.exit_code == 0, done.output
        return done.stdout

    run("add", "blocked_cards", "c1", "--reason", "stolen", "--actor", "bob")
    assert scored(client, 1)["action"] == "block"
    run("remove", "blocked_cards", "c1", "--reason", "found")
    file = project / "cards.txt"
    file.write_bytes("\ufeffc7\nc8\n".encode())  # as Windows writes it
    run("load", "blocked_cards", str(file), "--reason", "many", "--actor", "bob")
    assert [one["key"]["card_id"] for one in client.list_members("blocked_cards")["items"]] == ["c7", "c8"]
    file.write_bytes(b"caf\xe9\n")
    refused = CliRunner().invoke(
        app, ["lists", "load", "blocked_cards", str(file), "--reason", "x", "--project", str(project)]
    )
    assert (refused.exit_code, "no UTF-8" in str(refused.output) + str(refused.exception)) == (2, True)
    assert scored(client, 2)["action"] == "approve"
    assert [row["actor"] for row in json.loads(run("history", "blocked_cards", "--json"))][-1] == "bob"
