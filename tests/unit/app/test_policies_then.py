"""What the policy of a digest was, after others came: by command, by HTTP, and where a decision is explained."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import penstock
from penstock.app import Runtime
from penstock.app.applied import AppliedHistory
from penstock.app.changing import apply, ensure_applied, plan_change
from penstock.app.policies_then import policy_of_digest
from penstock.app.runtime import open_reader, state_folder
from penstock.cli.main import app
from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import to_us
from penstock.definitions.policies import AlertBudget, CostMatrix, CostOptimal, Policy
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.plan.policies import described_policy, policy_digest
from penstock.testing.clock import ManualClock
from penstock.testing.serving import serving_project

EXAMPLE = Path("examples/fraud/rules_project")
START = datetime(2026, 3, 2, 10, tzinfo=UTC)
CLOCK = ManualClock(to_us(START + timedelta(days=30)))


def payment(i):
    return {"payment_id": f"p{i}", "card_id": "c1", "email": "a@x.org", "paid_at": START, "amount": 10.0}


def changed(root, old, new, *, why):
    file = root / "definitions.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return apply(plan_change(load_project(root)), root, actor="ann", reason=why)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Payments p0 to p2, each decided by another policy: first other thresholds and no cap, then as before with other costs."""
    folder = tmp_path_factory.mktemp("policies") / "rules"
    root = shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".penstock", "__pycache__"))
    ensure_applied(load_project(root), actor="ann")
    with Runtime.open(root, clock=CLOCK) as runtime:
        runtime.ingest("payments", [payment(0)])
    changed(root, '"block": 0.9, "review": 0.4', '"block": 0.8', why="fewer reviews")
    changed(root, 'cap=AlertCap(200, actions=["review"], instead="approve"),', "", why="no cap")
    with Runtime.open(root, clock=CLOCK) as runtime:
        runtime.ingest("payments", [payment(1)])
    changed(root, "alert=0.5", "alert=0.75", why="dearer")
    return root


def digests(root):
    with open_reader(root) as store:
        return [Decisions.from_bytes(b.payload).policy for b in store.read_decisions()]


def run(root, *arguments, code=0):
    done = CliRunner().invoke(app, [*arguments, "--project", str(root)])
    assert done.exit_code == code, done.output
    return done.stdout


def test_a_digest_names_what_decided_then(project):
    first, second = digests(project)
    found = policy_of_digest(project, first)
    assert [(one["action"], one["threshold"]) for one in found.terms["actions"]] == [
        ("review", 0.4),
        ("block", 0.9),
    ]
    assert found.terms["cap"] == {"per_day": 200, "actions": ["review"], "instead": "approve"}
    assert [one["list"] for one in found.terms["rules"]] == ["trusted", "blocked_cards", None]
    (time,) = found.times
    assert (time.endpoint, time.version) == ("checkout", 1)
    assert time.until_us == AppliedHistory(state_folder(project)).all()[1].applied_us
    now = policy_of_digest(project, second[:6])
    assert (now.terms["cap"], now.terms["costs"]["alert"]) == (None, 0.75)  # costs alone are no other policy
    assert [(one.version, one.until_us is None) for one in now.times] == [(3, False), (4, True)]


def test_a_digest_that_nobody_knows(project):
    with pytest.raises(NotFoundError, match="no applied definitions have it"):
        policy_of_digest(project, "0123456789abcdef")
    with pytest.raises(InputError, match="at least 4"):
        policy_of_digest(project, "01")
    run(project, "policies", "0123456789abcdef", code=2)


def test_the_commands(project):
    first, second = digests(project)
    listed = run(project, "policies")
    assert listed.index(second) < listed.index(first)
    shown = run(project, "policies", first)
    for text in ("score from 0.4", "200 a day of review, then approve", "list blocked_cards", "version 1"):
        assert text in shown
    assert max(map(len, (shown + listed).splitlines())) <= 80
    assert json.loads(run(project, "policies", first, "--json"))["digest"] == first
    assert json.loads(run(project, "policies", "--json"))[0]["digest"] == second


def test_explaining_a_decision_says_what_decided_it_and_not_what_would_now(project):
    shown = run(project, "explain-event", "p0")
    assert "approve, review from 0.4, block from 0.9" in shown
    assert f"penstock policies {digests(project)[0]}" in " ".join(shown.split())
    decision = json.loads(run(project, "explain-event", "p0", "--json"))["decision"]
    assert decision["thresholds"] == {"review": 0.4, "block": 0.9}
    assert json.loads(run(project, "explain-event", "p1", "--json"))["decision"]["thresholds"] == {
        "block": 0.8
    }


def test_over_http(project, tmp_path):
    root = shutil.copytree(project, tmp_path / "rules")
    first, second = digests(root)
    with serving_project(root, clock=CLOCK) as served, penstock.Client(served.url, actor="ann") as client:
        listed = client.policies(limit=1)
        assert [one["digest"] for one in listed["items"]] == [second]
        rest = client.policies(cursor=listed["next"])
        assert first in [one["digest"] for one in rest["items"]]
        one = client.policy(first)
        assert one["in_force"][0]["from"]
        assert one["cap"]["per_day"] == 200
        decision = client.event("payments", "p0")["decision"]
        assert (decision["policy_version"], decision["thresholds"]) == (first, {"review": 0.4, "block": 0.9})
        with pytest.raises(NotFoundError):
            client.policy("0123456789abcdef")


def test_definitions_applied_by_an_older_penstock_are_no_change(project, tmp_path):
    """Their endpoints are described without their policies."""
    root = shutil.copytree(project, tmp_path / "rules")
    newest = max((state_folder(root) / "applied").glob("*.json"))
    kept = json.loads(newest.read_text())
    del kept["description"]["endpoints"][0]["terms"]
    newest.write_text(json.dumps(kept))
    assert plan_change(load_project(root)).is_empty


def test_other_costs_are_a_change_that_is_told(project, tmp_path):
    root = shutil.copytree(project, tmp_path / "rules")
    file = root / "definitions.py"
    file.write_text(file.read_text().replace("alert=0.75", "alert=1.0"))
    (change,) = plan_change(load_project(root)).changes
    assert (change.name, change.details) == ("checkout", ("costs of its policy changed",))


def test_all_that_a_digest_covers_is_described():
    costs = CostMatrix(5.0, "amount")
    policies = [
        Policy("p", actions={"block": one}, costs=costs, explore=share)
        for one in (
            0.9,
            0.8,
            CostOptimal(0.9),
            CostOptimal(0.9, alerts_per_day=5),
            CostOptimal(0.9, CostMatrix(1.0, 2.0)),
            AlertBudget(5, 0.9),
        )
        for share in (0.0, 0.1)
    ]
    described = [json.dumps(described_policy(one) | {"digest": ""}, sort_keys=True) for one in policies]
    assert len({policy_digest(one) for one in policies}) == len(set(described)) == len(policies)
    assert all(json.loads(json.dumps(described_policy(one))) == described_policy(one) for one in policies)
