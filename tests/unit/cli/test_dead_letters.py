"""`penstock dead-letters`: beside a server and without one, the same."""

import json
import time
from contextlib import ExitStack

import pytest
from typer.testing import CliRunner

from penstock.app.route_watch import running_notes
from penstock.app.runtime import Runtime, audit_log_of
from penstock.cli.main import app
from penstock.testing.serving import serving_project
from tests.unit.serving.shop import CLOCK, payments, write_template

GOOD = payments()[0]
NO_AMOUNT = {name: value for name, value in GOOD.items() if name != "amount"}


@pytest.fixture
def root(tmp_path):
    root = write_template(tmp_path / "shop")
    with Runtime.open(root, clock=CLOCK) as runtime:
        runtime.ingest("payments", [NO_AMOUNT, {**NO_AMOUNT, "amount": "x"}, NO_AMOUNT])
    (root / "corrected.json").write_text(json.dumps(GOOD, indent=2))
    return root


def run(root, *arguments, code=0):
    done = CliRunner().invoke(app, ["dead-letters", *arguments, "--project", str(root)])
    assert done.exit_code == code, done.output
    return done.stdout


def numbers(root):
    return [one["id"] for one in json.loads(run(root, "list", "--json"))]


def test_list_and_show(root):
    assert numbers(root) == [3, 2, 1]
    assert "missing_field" in run(root, "list", "--refused-for", "missing_field")
    assert json.loads(run(root, "show", "2", "--json"))["reason"] == "wrong_type"
    assert GOOD["payment_id"] in run(root, "show", "2")


def use(root):
    """Replay and drop; returns the actors that the audit log names."""
    run(root, "replay", "1", "--reason", "again", code=1)
    corrected = ["--corrected", str(root / "corrected.json")]
    assert "1 of 1 accepted" in run(root, "replay", "1", *corrected, "--reason", "mended")
    assert numbers(root) == [3, 2]
    assert "1 dropped" in run(root, "drop", "--all", "--refused-for", "wrong_type", "--reason", "a test")
    assert numbers(root) == [3]
    assert "0 of 1 accepted" in run(root, "replay", "--all", "--source", "payments", "--reason", "x", code=1)
    return [(row.action, row.reason) for row in audit_log_of(root).rows()]


EXPECTED = [
    ("dead_letters.replay", "again"),
    ("dead_letters.replay", "mended"),
    ("dead_letters.drop", "a test"),
    ("dead_letters.replay", "x"),
]


def test_without_a_server(root, monkeypatch):
    monkeypatch.setattr("penstock.app.runtime.SystemClock", lambda: CLOCK)
    assert use(root) == EXPECTED


def test_beside_a_server(root):
    with serving_project(root, clock=CLOCK) as served:
        for _ in range(200):
            notes = running_notes(root)
            if notes is not None and notes.url == served.url:
                break
            time.sleep(0.02)
        assert use(root) == EXPECTED


@pytest.mark.parametrize("is_served", [True, False])
def test_who_acts_is_kept_beside_a_server_and_without(root, monkeypatch, is_served):
    monkeypatch.setattr("penstock.app.runtime.SystemClock", lambda: CLOCK)
    with ExitStack() as stack:
        if is_served:
            stack.enter_context(serving_project(root, clock=CLOCK))
            until = time.monotonic() + 10
            while (running_notes(root) is None or not running_notes(root).url) and time.monotonic() < until:
                time.sleep(0.02)
        run(root, "drop", "1", "--reason", "card 4111111111111111", "--actor", "ana")
    (row,) = audit_log_of(root).rows()
    assert (row.actor, row.reason) == ("ana", "card ************1111")


def test_numbers_or_all(root):
    for arguments in ((), ("1", "--all")):
        run(root, "drop", *arguments, "--reason", "x", code=2)
