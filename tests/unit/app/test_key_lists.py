"""Lists of keys, velocity rules and the day's budget: on the example's own definitions, live, replayed, backtested and forgotten."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.backtesting import Asked, backtest
from penstock.app.explaining import explain_event
from penstock.app.forgetting import forget
from penstock.app.key_lists import Wanted, changes_of, list_named, members
from penstock.app.list_changes import change
from penstock.app.runtime import audit_log_of, open_reader, plan_of
from penstock.cli.main import app
from penstock.core.errors import DefinitionError, InputError, NotFoundError
from penstock.core.time import to_us
from penstock.definitions.entities import Entity
from penstock.definitions.key_lists import KeyList
from penstock.definitions.policies import Rule
from penstock.definitions.project import load_project
from penstock.definitions.sources import PushConfig, StreamSource
from penstock.engine.audit import audit
from penstock.engine.decisions import Decisions, Flag
from penstock.testing.clock import ManualClock
from penstock.types import Field, Int64, String, Timestamp

EXAMPLE = Path("examples/fraud/rules_project")
START = datetime(2026, 3, 2, 10, tzinfo=UTC)
CLOCK = ManualClock(to_us(START + timedelta(days=30)))
NUMBER = "4539578763621486"


@pytest.fixture
def root(tmp_path):
    folder = shutil.copytree(EXAMPLE, tmp_path / "rules")
    (folder / "penstock.toml").write_text(
        '[project]\ndefinitions = ["definitions.py"]\n[engine]\ndurability = "process"\n'
    )
    return folder


@pytest.fixture
def runtime(root):
    with Runtime.open(root, clock=CLOCK) as runtime:
        yield runtime


def payment(number, at=START, card="c1", email="a@x.org"):
    return {"payment_id": f"p{number}", "card_id": card, "email": email, "paid_at": at, "amount": 10.0}


def changed(runtime, name, *wanted, actor="ann", reason="stolen"):
    log = audit_log_of(runtime.project.root)
    return change(runtime, name, wanted, actor=actor, reason=reason, log=log)


def one(runtime, *arguments, **named):
    (answer,) = runtime.ingest("payments", [payment(*arguments, **named)])
    return answer


def block(card, **named):
    return Wanted({"card_id": card}, **named)


def test_the_next_event_sees_a_change_whatever_its_time(runtime):
    assert one(runtime, 1).action == "approve"
    changed(runtime, "blocked_cards", block("c1"))
    # The change is stamped by the clock, weeks after the payments' own time, which is even before the first one.
    late = one(runtime, 2, START - timedelta(minutes=5))
    assert (late.action, late.rule, late.lists) == (
        "block",
        "blocked card",
        {"trusted": 0, "blocked_cards": 1},
    )
    changed(runtime, "blocked_cards", block("c1", listed=False))
    assert one(runtime, 3).action == "approve"
    assert one(runtime, 4, card="c2").lists == {"trusted": 0, "blocked_cards": 2}


def test_an_allow_rule_that_stands_first_wins(runtime):
    changed(runtime, "blocked_cards", block("c1"))
    changed(runtime, "trusted", Wanted({"email": "a@x.org"}))
    assert (one(runtime, 1).rule, one(runtime, 2, email="b@x.org").rule) == (
        "trusted customer",
        "blocked card",
    )


def test_an_entry_expires_by_the_events_own_time(runtime):
    changed(runtime, "blocked_cards", block("c1", expires_at=START + timedelta(hours=1)))
    times = [START, START + timedelta(hours=1, microseconds=-1), START + timedelta(hours=1)]
    assert [one(runtime, i, at).action for i, at in enumerate(times)] == ["block", "block", "approve"]


def test_versions_within_one_micro_batch_follow_positions(runtime):
    rows = runtime.decode(
        "blocked_cards", json.dumps({"card_id": "c1", "changed_at": START.isoformat()}).encode()
    )
    events = [payment(i, START + timedelta(minutes=i - 1), card="c1") for i in range(3)]
    decoded = runtime.decode("payments", events)
    outcome = (
        runtime.process([("payments", decoded), ("blocked_cards", rows)], by_time=True).wait().outcomes[0]
    )
    assert outcome.positions.tolist() == [0, 2, 3]
    decisions = Decisions.from_bytes(outcome.decisions.to_bytes())
    assert [decisions.versions_of_lists(i)["blocked_cards"] for i in range(3)] == [0, 1, 1]
    assert [decisions.rule(i) for i in range(3)] == [None, "blocked card", "blocked card"]
    assert decisions.take(np.array([1])).versions_of_lists(0)["blocked_cards"] == 1


def test_audit_replay_and_backtest_use_the_version_of_then(root):
    with Runtime.open(root, clock=CLOCK) as runtime:
        for i in range(9):
            if i % 3 == 1:
                changed(runtime, "blocked_cards", block("c1", listed=i % 2 == 1))
            one(runtime, i, START + timedelta(hours=i))
    with Runtime.open(root, clock=CLOCK, rebuild=True) as runtime:  # the state is the log's
        assert one(runtime, 9).lists["blocked_cards"] == 3
        features = (
            runtime.project.endpoints["checkout"].features.get_features_for_events(as_of="served").to_arrow()
        )
    assert features["blocked_cards__listed"].to_pylist() == [False, *[True] * 3, *[False] * 3, *[True] * 3]
    with open_reader(root) as store:
        assert audit(store, plan_of(load_project(root))).clean
    found = backtest(root, "checkout", Asked())
    assert found.sides[0].actions == found.sides[1].actions == {"approve": 4, "block": 6}
    assert not any(before != after for before, after in found.changes[0])
    decision = explain_event(root, "p5").decision
    assert decision.versions_of_lists(0) == {"trusted": 0, "blocked_cards": 2}
    assert len(decision.policy) == 16


def test_corrected_training_sets_know_of_a_list_what_was_known_then(root):
    with Runtime.open(root, clock=ManualClock(to_us(START + timedelta(hours=1)))) as runtime:
        one(runtime, 1)
        changed(runtime, "blocked_cards", block("c1"))
        one(runtime, 2, START + timedelta(minutes=63))
        asked = runtime.project.endpoints["checkout"].features
        rows = asked.get_features_for_events(as_of="corrected").to_arrow()
    assert rows["blocked_cards__listed"].to_pylist() == [False, True]


def test_history_and_members_are_in_the_order_of_the_log(runtime, root):
    changed(runtime, "blocked_cards", block("c1"), block("c2"), reason="one")
    changed(runtime, "blocked_cards", block("c1", listed=False), actor="bob", reason="two")
    with open_reader(root) as store:
        found = list(changes_of(store, runtime.plan.sources["blocked_cards"]))
    said = [(c.version, c.key, c.listed, c.actor, c.reason) for c in found]
    assert said == [
        (1, ("c1",), True, "ann", "one"),
        (2, ("c2",), True, "ann", "one"),
        (3, ("c1",), False, "bob", "two"),
    ]
    assert list(members(found)) == [("c2",)]
    at = {"changed_at": (START + timedelta(days=30)).isoformat()}
    noted = [(row.action, row.subject, json.loads(row.detail)) for row in audit_log_of(root).rows()]
    assert noted == [
        ("list.change", "blocked_cards", {"added": 2, "removed": 0, "versions": [1, 2], "position": 1} | at),
        ("list.change", "blocked_cards", {"added": 0, "removed": 1, "versions": [3, 3], "position": 2} | at),
    ]


def test_a_request_is_taken_whole_or_not_at_all(runtime, root):
    for wrong in ({"card_id": 7}, {"card_id": "c1", "x": 1}, {}):
        with pytest.raises(InputError):
            changed(runtime, "blocked_cards", block("c1"), Wanted(wrong))
    with open_reader(root) as store:
        assert not list(changes_of(store, runtime.plan.sources["blocked_cards"]))
        assert not store.dead_letter_count()
    with pytest.raises(NotFoundError, match="blocked_cards"):
        changed(runtime, "blocked", block("c1"))


def test_card_numbers_are_tokens_in_events_and_lists(runtime, root):
    changed(runtime, "blocked_cards", block(NUMBER))
    assert one(runtime, 1, card=f"{NUMBER[:4]} {NUMBER[4:8]} {NUMBER[8:12]} {NUMBER[12:]}").action == "block"
    shown = run(root, "show", "blocked_cards", NUMBER, "--json")
    assert NUMBER not in shown
    assert json.loads(shown)[0]["key"]["card_id"].startswith("card_")


def test_lists_and_streams_must_write_card_numbers_alike():
    stream = StreamSource("s", PushConfig(), schema=[Field("card_id", String), Field("at", Timestamp)])
    with pytest.raises(DefinitionError, match="tokenise"):
        KeyList("l", Entity("card", [Field("card_id", String)]), card_numbers="tokenise").on(stream)


def test_a_forgotten_key_leaves_the_history_and_its_number_stays(root):
    with Runtime.open(root, clock=CLOCK) as runtime:
        changed(runtime, "blocked_cards", block("c1"), block("c2"))
        one(runtime, 1)
    forget(root, "card", ["c1"], clock=CLOCK)
    project = load_project(root)
    with open_reader(root) as store:
        found = list(changes_of(store, plan_of(project).sources["blocked_cards"]))
    assert [(c.version, c.key) for c in found] == [(1, None), (2, ("c2",))]
    with Runtime.open(root, clock=CLOCK) as runtime:
        assert one(runtime, 2).action == "approve"
        assert one(runtime, 3, card="c2").lists["blocked_cards"] == 2


def test_a_velocity_rule_counts_a_window(runtime):
    answers = runtime.ingest("payments", [payment(i, START + timedelta(minutes=i)) for i in range(12)])
    assert [a.rule for a in answers] == [None] * 5 + ["too fast"] * 7
    answers = runtime.ingest("payments", [payment(20 + i, START + timedelta(hours=1 + i)) for i in range(8)])
    assert {a.rule for a in answers} == {None}


def test_a_table_of_changes_is_read_besides(root):
    text = (root / "definitions.py").read_text()
    text = text.replace(
        'KeyList("blocked_cards", card,',
        'KeyList("blocked_cards", card, batch_config=FileConfig("blocked.csv", "csv"),',
    ).replace("    Entity,", "    Entity,\n    FileConfig,")
    (root / "definitions.py").write_text(text)
    (root / "blocked.csv").write_text(
        "card_id,changed_at,listed\nc1,2026-03-01T00:00:00Z,true\nc2,2026-03-01T00:00:00Z,\nc1,2026-03-03T00:00:00Z,false\n"
    )
    (root / "payments.ndjson").write_text(
        "".join(
            json.dumps({**payment(f"{card}{day}", START + timedelta(days=day), card=card)}, default=str)
            + "\n"
            for day in range(3)
            for card in ("c1", "c2")
        )
    )
    done = CliRunner().invoke(app, ["run", f"payments={root}/payments.ndjson", "--project", str(root)])
    assert done.exit_code == 0, done.output
    with open_reader(root) as store:
        decided = [Decisions.from_bytes(b.payload) for b in store.read_decisions()]
    found = [(d.rule(i), d.versions_of_lists(i)["blocked_cards"]) for d in decided for i in range(len(d))]
    listed = "blocked card"
    assert found == [(listed, 2), (listed, 2), (None, 3), (listed, 3), (None, 3), (listed, 3)]


def run(root, *arguments, code=0):
    done = CliRunner().invoke(app, ["lists", *arguments, "--project", str(root)])
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_commands_without_a_server(root, tmp_path):
    assert "2 changed" in run(
        root, "add", "blocked_cards", "c1", "c2", "--reason", "stolen", "--expires", "30d"
    )
    (tmp_path / "keys.txt").write_text("c2\nc3\n")
    loaded = json.loads(
        run(
            root,
            "load",
            "blocked_cards",
            str(tmp_path / "keys.txt"),
            "--replace",
            "--reason",
            "file",
            "--json",
        )
    )
    assert loaded["changed"] == 3  # c2 for ever, c3, and c1 no more
    assert [row["key"]["card_id"] for row in json.loads(run(root, "show", "blocked_cards", "--json"))] == [
        "c3",
        "c2",
    ]
    assert "nothing to change" in run(
        root, "load", "blocked_cards", str(tmp_path / "keys.txt"), "--reason", "again"
    )
    run(root, "remove", "blocked_cards", "c3", "--reason", "found")
    history = json.loads(run(root, "history", "blocked_cards", "c3", "--json"))
    assert [(row["version"], row["listed"], row["reason"]) for row in history] == [
        (6, False, "found"),
        (4, True, "file"),
    ]
    assert json.loads(run(root, "list", "--json"))[0]["version"] == 6
    assert max(map(len, run(root, "history", "blocked_cards").splitlines())) <= 80
    run(root, "show", "nothing", code=2)


def test_a_list_that_no_rule_names_is_not_changed(root):
    text = (root / "definitions.py").read_text() + '\nunused = KeyList("unused", card)\n'
    (root / "definitions.py").write_text(text)
    project = load_project(root)
    with pytest.raises(NotFoundError, match="no rule"):
        list_named(project, plan_of(project), "unused")


def test_a_list_can_be_a_feature_by_another_key():
    account = Entity("account", [Field("account_id", Int64)])
    stream = StreamSource(
        "s",
        PushConfig(),
        schema=[Field("account_id", Int64), Field("receiver", Int64), Field("at", Timestamp)],
    )
    mules = KeyList("mules", account)
    assert Rule("mule", when=mules, action="block").feature == "mules.listed"
    to = mules.on(stream, name="to_mule", join_key_map={"account_id": "receiver"})
    assert to is mules.on(stream, name="to_mule", join_key_map={"account_id": "receiver"})
    assert list(to.feature_types) == ["listed"]


CAPPED = [payment(f"c{i}", START + timedelta(seconds=i), card="fast") for i in range(30)]


def capped_project(root, per_day=10):
    text = (root / "definitions.py").read_text().replace("AlertCap(200,", f"AlertCap({per_day},")
    (root / "definitions.py").write_text(text)
    return root


def decided(root):
    with open_reader(root) as store:
        parts = [(b.positions, Decisions.from_bytes(b.payload)) for b in store.read_decisions()]
        return {
            int(at): (d.actions[d.taken[i]], int(d.flags[i]), d.rule(i))
            for positions, d in parts
            for i, at in enumerate(positions)
        }, store.counters()


@pytest.mark.parametrize("sizes", [(30,), (1,) * 30, (7, 1, 12, 10)])
def test_the_budget_of_a_day_is_kept_however_events_come_and_over_restarts(root, sizes):
    capped_project(root)
    at = 0
    for size in sizes:
        with Runtime.open(root, clock=CLOCK) as runtime:
            runtime.ingest("payments", CAPPED[at : at + size])
        at += size
    found, counters = decided(root)
    actions = [found[i][0] for i in range(30)]
    assert actions == ["approve"] * 5 + ["review"] * 10 + ["approve"] * 15
    assert [bool(found[i][1] & Flag.OVER_BUDGET) for i in range(30)] == [False] * 15 + [True] * 15
    assert {found[i][2] for i in range(5, 30)} == {"too fast"}
    assert (counters["over_budget"], counters["action.review"], counters["action.approve"]) == (15, 10, 20)


def test_a_day_is_the_events_own_and_late_events_count_for_theirs(root):
    capped_project(root, per_day=2)
    text = (root / "definitions.py").read_text()
    late = text.replace(
        'event_id_field="payment_id",', 'event_id_field="payment_id", allowed_lateness=2 * DAY,'
    )
    (root / "definitions.py").write_text(late)
    tomorrow = START + timedelta(days=1)
    rows = [
        payment(i, START + timedelta(seconds=i)) for i in range(6)
    ]  # the sixth is too fast: the first alert
    rows += [payment(10 + i, tomorrow + timedelta(seconds=i)) for i in range(8)]  # three alerts, two allowed
    rows += [
        payment(20 + i, START + timedelta(seconds=6 + i)) for i in range(3)
    ]  # yesterday's second, and two over
    with Runtime.open(root, clock=CLOCK) as runtime:
        runtime.ingest("payments", rows)
    found, _ = decided(root)
    over = [i for i in found if found[i][1] & Flag.OVER_BUDGET]
    assert [i for i in found if found[i][0] == "review"] == [5, 11, 12, 14]
    assert over == [13, 15, 16]


def test_a_backtest_caps_as_the_engine_did(root):
    capped_project(root)
    with Runtime.open(root, clock=CLOCK) as runtime:
        for i in range(0, 30, 4):
            runtime.ingest("payments", CAPPED[i : i + 4])
    found = backtest(root, "checkout", Asked())
    assert [side.over_budget for side in found.sides] == [15, 15]
    assert not any(before != after for before, after in found.changes[0])
    capped_project(root)
    (root / "definitions.py").write_text(
        (root / "definitions.py").read_text().replace("AlertCap(10,", "AlertCap(12,")
    )
    assert backtest(root, "checkout", Asked()).sides[1].actions == {"approve": 18, "review": 12}
