"""Backtests on a project whose endpoint has arms, rules and exploration: what was decided comes back bit for bit."""

import json
import math
from datetime import timedelta
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.backtesting import Asked, backtest
from penstock.app.runtime import open_reader, plan_of, store_path
from penstock.cli.main import app
from penstock.core.errors import DefinitionError, InputError, NotFoundError
from penstock.core.time import to_us
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.history import features_from_log
from penstock.engine.replay import replay
from penstock.models.loading import load_model
from tests.unit.app.arms import DEFINITIONS, START, promote, register, write_project

RULES = """
@realtime_feature_view(sources=[RequestSource([AMOUNT])], features=[Attribute("huge", Bool), Attribute("tiny", Bool)])
def lists(request):
    return {"huge": request["amount"] > 170, "tiny": request["amount"] < 9}

all_features = FeatureService("all_features", features=[spending, lists])
RULES = [Rule("tiny amounts pass", when="lists.tiny", action="approve"), Rule("huge", when="lists.huge", action="review")]
card_policy = Policy(
    "card", actions={"review": 0.4, "block": 0.8}, rules=RULES, explore=0.2, costs=CostMatrix(5.0, "amount", alert=1.0),
)
lax = Policy("lax", actions={"block": 0.8}, costs=CostMatrix(5.0, "amount", alert=1.0))
checkout = Endpoint(
    "checkout", source=payments, model=model, policy=card_policy, sticky=card, features=all_features,
    arms=[Arm("champion", weight=80), Arm("narrow", model=narrow, weight=20)],
)
"""
HEAD = DEFINITIONS.split("checkout = Endpoint(")[0]
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def no_child():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
        yield


def payments(count):
    rng = np.random.default_rng(8)
    amounts = rng.gamma(2.0, 40.0, count).round(2)
    return [
        {
            "id": f"p{i}",
            "card_id": f"c{i % 40}" if i % 41 else None,
            "at": START + timedelta(minutes=7 * i),
            "amount": float(amounts[i]),
        }
        for i in range(count)
    ]


def labels(rows):
    rng = np.random.default_rng(9)
    return [
        {"id": r["id"], "fraud": bool(rng.random() < min(r["amount"] / 300, 0.9)), "known_at": r["at"] + DAY}
        for r in rows
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory, no_child):
    """Two arms decided on 1,600 payments in batches of all sizes; the labels of 1,200 are known."""
    root = write_project(tmp_path_factory.mktemp("backtested"), HEAD + RULES)
    promote(root, register(root))
    promote(root, register(root, "narrow"))
    register(root, shift=40.0)
    rows = payments(1600)
    with Runtime.open(root) as runtime:
        assert not runtime.problems
        at = 0
        for size in (1, 2, 1, 300, 1, 1, 700, 94, 500):
            runtime.ingest("payments", rows[at : at + size])
            at += size
        runtime.ingest("frauds", labels(rows[:1200]))
    return root


def stored(root):
    with open_reader(root) as store:
        return [(b.positions, Decisions.from_bytes(b.payload)) for b in store.read_decisions()]


def by_position(parts):
    """Everything that was decided on each event, as plain values."""
    return {
        int(position): (
            d.scores[i].tobytes(),
            d.actions[d.taken[i]],
            int(d.flags[i]),
            d.rule(i),
            d.propensity(i),
            d.vectors[i].tobytes(),
        )
        for positions, d in parts
        for i, position in enumerate(positions)
    }


def redecided(root, **asked):
    found = []
    result = backtest(
        root, "checkout", Asked(**asked), watch=lambda who, block, d: found.append((block.positions, d))
    )
    return result, by_position(found)


def test_the_model_that_decided_gives_its_decisions_back_bit_for_bit(project):
    before = by_position(stored(project))
    arms = {}
    for positions, decisions in stored(project):
        for i, position in enumerate(positions):
            arms.setdefault(decisions.decided_by(i).version, []).append(int(position))
    assert set(arms) == {"fraud:1", "narrow:1"}
    for label, decided in arms.items():
        _, after = redecided(project, models=(label,))
        assert len(decided) > 100
        assert {p: after[p] for p in decided} == {p: before[p] for p in decided}


def test_definitions_as_they_stand_decide_on_the_scores_as_they_were(project):
    result, after = redecided(project)
    assert after == by_position(stored(project))
    kinds = {value[1:4] for value in after.values()}
    assert {rule for _, _, rule in kinds} == {None, "huge", "tiny amounts pass"}
    assert any(flags & Flag.EXPLORED for _, flags, _ in kinds)
    assert result.weighted
    assert [before for before, now in result.changes[0] if before != now] == []


def test_figures_are_those_of_plain_counting(project):
    result, after = redecided(project, models=("fraud:2",), policy="lax")
    rows, truth = payments(1600), {r["id"]: r["fraud"] for r in labels(payments(1200))}
    known = by_position(stored(project))
    weights = {}
    for positions, decisions in stored(project):
        weights |= dict(zip(positions.tolist(), decisions.label_weights().tolist(), strict=True))
    for side, decided in zip(result.sides, (known, after), strict=True):
        cost = idle = hits = alarms = positives = 0.0
        ranked = []
        for position, one in decided.items():
            row, fraud = rows[position], truth.get(rows[position]["id"])
            acted = one[1] != "approve"
            if fraud is None:
                continue
            weight = weights[position]
            ranked.append((np.frombuffer(one[0])[0], fraud, weight))
            idle += weight * row["amount"] * fraud
            cost += weight * (acted * (1.0 + 5.0 * (not fraud)) + (not acted) * fraud * row["amount"])
            hits, alarms = hits + weight * (acted and fraud), alarms + weight * (acted and not fraud)
            positives += weight * fraud
        assert side.cost == pytest.approx(cost)
        assert side.idle_cost == pytest.approx(idle)
        assert side.precision == pytest.approx(hits / (hits + alarms))
        assert side.recall == pytest.approx(hits / positives)
        scores, frauds, counted = map(np.array, zip(*ranked, strict=True))
        assert side.average_precision == pytest.approx(
            average_precision_score(frauds, scores, sample_weight=counted), abs=5e-3
        )
        assert side.alerts == sum(one[1] != "approve" for one in decided.values())
        assert side.pending == 400
    changed = sum(known[p][1] != after[p][1] for p in known)
    assert changed > 50
    assert changed == sum(n for (before, now), n in result.changes[0].items() if before != now)


def test_a_period_is_of_event_time(project):
    start, end = START + 2 * DAY, START + 3 * DAY
    result, after = redecided(project, start_us=to_us(start), end_us=to_us(end))
    wanted = {i for i, row in enumerate(payments(1600)) if start <= row["at"] < end}
    assert set(after) == wanted
    assert sum(found[0] for found in result.days[0].values()) == len(wanted)
    nothing, _ = redecided(project, start_us=to_us(START - DAY), end_us=to_us(START))
    assert nothing.sides == ()


def test_features_of_other_definitions_are_recomputed_from_the_log(project, tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.app.logged_decisions.BLOCK_ROWS", 100)
    monkeypatch.setattr("penstock.app.logged_decisions.replay", partial(replay, chunk_rows=128))
    text = (HEAD + RULES).replace("> 170", "> 100").replace("timedelta(hours=1)", "timedelta(hours=2)")
    other = write_project(tmp_path, text)
    promote(other, version := register(other, shift=-20.0))
    result, after = redecided(project, definitions=other)
    assert result.recomputed == 1600
    assert [side.name for side in result.sides] == ["as decided", "fraud:1"]
    # What is in force and what is tried stand side by side, models and features.
    assert all(side.latency_ms > 0 and side.features_ms > 0 for side in result.sides)
    plan = plan_of(load_project(other))
    with open_reader(project) as store:
        logged = features_from_log(store, plan, plan.services["all_features"])
    vectors = logged.features.values
    model = load_model(version.folder, digest=version.digest, version=version.label)
    scores = model.score(np.ascontiguousarray(vectors[:, :2]))
    assert len(after) == 1600
    for position, decided in after.items():
        assert decided[0] == scores[position].tobytes()
        assert decided[5] == vectors[position].tobytes()
        assert (decided[3] == "huge") == (payments(1600)[position]["amount"] > 100)


def test_models_are_measured_in_turns_over_the_same_events(project, monkeypatch):
    rows = []

    def measured(calls, count):
        for row in range(count):
            rows.extend(call(row) for call in calls)
        return [float(i) for i in range(len(calls))]

    monkeypatch.setattr("penstock.app.backtest_latency.latencies_ms", measured)
    result, _ = redecided(project, models=("fraud:1", "fraud:2"))
    assert [side.latency_ms for side in result.sides] == [0.0, 1.0, 2.0]
    # The model in force is the version that decided last: its scores are those of that version, event by event.
    in_force = {d.decided_by(len(d) - 1).version for _, d in stored(project)[-1:]}
    assert in_force == {"fraud:1"}
    assert [a == b for a, b, _ in zip(rows[::3], rows[1::3], rows[2::3], strict=True)] == [True] * (
        len(rows) // 3
    )
    assert any(a != c for a, c in zip(rows[::3], rows[2::3], strict=True))
    assert redecided(project)[0].sides[0].latency_ms is None  # no model is tried, none is measured


def test_a_model_of_other_features_is_refused(project, tmp_path):
    other = write_project(tmp_path, (HEAD + RULES).replace("timedelta(hours=1)", "timedelta(hours=2)"))
    with pytest.raises(InputError, match="was trained on features"):
        backtest(project, "checkout", Asked(definitions=other, models=("fraud:1",)))


def test_what_cannot_be_tried_is_refused(project):
    with pytest.raises(NotFoundError, match="lax"):
        backtest(project, "checkout", Asked(policy="none"))
    with pytest.raises(InputError, match="decides review, block"):
        backtest(project, "checkout", Asked(thresholds={"pass": 0.5}))
    with pytest.raises(InputError, match="graver"):
        backtest(project, "checkout", Asked(thresholds={"block": 0.1}))
    with pytest.raises(InputError, match="NAME:VERSION"):
        backtest(project, "checkout", Asked(models=("fraud",)))


def test_rules_are_about_bool_features(tmp_path):
    for wrong in ('when="lists.huge"', 'when="spending.sum"'), ('when="lists.huge"', 'when="lists.other"'):
        root = write_project(tmp_path, (HEAD + RULES).replace(*wrong))
        with pytest.raises(DefinitionError, match=r"Bool features: lists.huge, lists.tiny"):
            load_project(root)


def test_the_command_prints_json_and_a_page_and_writes_nothing(project, tmp_path):
    before = store_path(project).read_bytes()
    arguments = [
        "backtest",
        "--project",
        str(project),
        "--threshold",
        "block=0.9",
        "--model",
        "fraud:2",
        "--model",
        "fraud:1",
    ]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0, printed.output
    assert all(len(line) <= 80 for line in printed.stdout.splitlines())
    assert "fraud:2 would decide otherwise" in printed.stdout
    page = tmp_path / "page.html"
    found = CliRunner().invoke(app, [*arguments, "--json", "--html", str(page)])
    values = json.loads(found.stdout)
    assert [side["name"] for side in values["sides"]] == ["as decided", "fraud:2", "fraud:1"]
    assert all(math.isfinite(side["cost"]) for side in values["sides"])
    assert all(side["latency_ms"] > 0 and side["features_ms"] is None for side in values["sides"])
    assert "Side by side" in page.read_text()
    assert store_path(project).read_bytes() == before
