"""Arms side by side, from stored decisions and labels."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

import pytest

from penstock.app import Runtime
from penstock.app.experimenting import experiment
from penstock.app.routing import set_weights, weights_of
from tests.unit.app.arms import DEFINITIONS, START, Constant, events, write_project

DAY = timedelta(days=1)


class ByAmount(Constant):
    """Scores 1 above a sum."""

    def score(self, vectors):
        return (vectors[:, 0] > self.value).astype(float)


@pytest.fixture
def runtime(tmp_path):
    with Runtime.open(write_project(tmp_path)) as opened:
        opened.routes.serve("checkout", ByAmount("fraud:1", 150.0), arm="champion")
        opened.routes.serve("checkout", ByAmount("fraud:2", 60.0), arm="challenger")
        yield opened


def send(runtime, start, count):
    answers = runtime.ingest("payments", events(start, count))
    labels = [
        {"id": f"e{i}", "fraud": i % 4 == 0, "known_at": START + DAY}
        for i in range(start, start + count)
        if i % 3
    ]
    runtime.ingest("frauds", labels)
    return answers


def compared(runtime, **options):
    node = runtime.plan.endpoints["checkout"]
    weights = weights_of(node, runtime.routes.audit)
    return experiment(runtime.store, runtime.plan, node, weights=weights, **options)


def test_the_figures_are_those_of_counting_by_hand(runtime):
    answers = send(runtime, 0, 700) + send(runtime, 700, 300)
    counts = defaultdict(lambda: defaultdict(int))
    for i, answer in enumerate(answers):
        mine = counts[answer.arm]
        labelled, fraud, alert = i % 3 > 0, i % 3 > 0 and i % 4 == 0, answer.action == "block"
        mine["decisions"] += 1
        mine["labelled"] += labelled
        mine["fraud"] += fraud
        mine["alert"] += alert
        mine["caught"] += alert and fraud
        mine["false"] += alert and labelled and not fraud
    found = compared(runtime)
    assert [one.arm for one in found.arms] == ["champion", "challenger"]
    assert sum(one.keys for one in found.arms) == 50
    for one in found.arms:
        mine = counts[one.arm]
        assert (one.decisions, one.labelled) == (mine["decisions"], mine["labelled"])
        assert one.ratios["alert_rate"].value == pytest.approx(mine["alert"] / mine["decisions"])
        assert one.ratios["recall"].value == pytest.approx(mine["caught"] / mine["fraud"])
        assert one.ratios["positive_rate"].value == pytest.approx(mine["fraud"] / mine["labelled"])
        assert one.ratios["false_positive_rate"].value == pytest.approx(
            mine["false"] / (mine["labelled"] - mine["fraud"])
        )
    assert found.arms[1].versions == ("fraud:2",)
    assert not found.suspicious
    assert found.moved == found.unkeyed == 0


def test_keys_that_changed_arms_are_left_out(runtime):
    before = {e["card_id"]: a.arm for e, a in zip(events(0, 50), send(runtime, 0, 50), strict=True)}
    node = runtime.plan.endpoints["checkout"]
    set_weights(node, {"challenger": 200.0}, runtime.routes.audit, actor="ann", reason="more")
    runtime.load_routes()
    after = {e["card_id"]: a.arm for e, a in zip(events(50, 50), send(runtime, 50, 50), strict=True)}
    moved = sum(before[card] != after[card] for card in before)
    found = compared(runtime)
    assert found.moved == moved > 0
    assert sum(one.keys for one in found.arms) == 50 - moved
    since = compared(runtime, start=100)
    assert since.moved == 0


def test_a_division_that_does_not_fit_the_weights_is_told(runtime):
    send(runtime, 0, 50)
    node = runtime.plan.endpoints["checkout"]
    told = experiment(runtime.store, runtime.plan, node, weights={"champion": 1.0, "challenger": 50.0})
    assert told.suspicious
    assert told.to_dict()["suspicious"]


def test_events_without_a_key_are_counted_apart(runtime):
    rows = events(0, 20)
    for row in rows[:5]:
        row["card_id"] = None
    runtime.ingest("payments", rows)
    found = compared(runtime)
    assert found.unkeyed == 5
    assert sum(one.decisions for one in found.arms) == 15


def test_an_arm_that_got_no_key_at_all_is_told(runtime):
    node = runtime.plan.endpoints["checkout"]
    set_weights(node, {"challenger": 0.0}, runtime.routes.audit, actor="ann", reason="none")
    runtime.load_routes()
    send(runtime, 0, 50)
    told = experiment(runtime.store, runtime.plan, node, weights={"champion": 1.0, "challenger": 1.0})
    assert told.suspicious


@pytest.mark.parametrize("instead", ["approve", "review"])
def test_arms_are_compared_by_what_they_decided_whatever_the_budget_left_of_it(tmp_path, instead):
    """Both arms share a budget that is used up early in the day; their figures are those without one."""
    plain = 'policy=Policy("card", actions={"block": 0.9})'
    actions = 'actions={"review": 0.8, "block": 0.9}, '
    cap = f'cap=AlertCap(60, actions=["block"], instead="{instead}")'
    found = []
    for policy in (f'Policy("card", {actions})', f'Policy("card", {actions}{cap})'):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        with Runtime.open(write_project(folder, DEFINITIONS.replace(plain, f"policy={policy}"))) as opened:
            opened.routes.serve("checkout", ByAmount("fraud:1", 150.0), arm="champion")
            opened.routes.serve("checkout", ByAmount("fraud:2", 60.0), arm="challenger")
            answers = send(opened, 0, 1_000)
            found.append(compared(opened))
    free, capped = found
    assert [one.ratios for one in capped.arms] == [one.ratios for one in free.arms]
    assert [one.differences for one in capped.arms] == [one.differences for one in free.arms]
    assert sum(one.over_budget for one in free.arms) == 0
    assert sum(answer.action == "block" for answer in answers) == 60
    for arm, result in zip(("champion", "challenger"), capped.arms, strict=True):
        mine = [answer for answer in answers if answer.arm == arm]
        over = sum("over_budget" in answer.flags for answer in mine)
        assert result.over_budget == over > 0
        assert result.ratios["alert_rate"].value * len(mine) == pytest.approx(
            over + sum(answer.action == "block" for answer in mine)
        )
