"""Rule, policy, versions of lists and the budget's flag: what a decision says, wherever it goes."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from penstock.app import Runtime
from penstock.app import offline_rows as exported_rows
from penstock.app.kafka_following import KafkaFollower
from penstock.app.key_lists import Wanted
from penstock.app.list_changes import change
from penstock.app.offline import store_of, sync
from penstock.app.runtime import audit_log_of, open_reader
from penstock.app.settings import KafkaSettings
from penstock.core.records import DecisionBatch
from penstock.core.time import to_us
from penstock.engine.decision_rows import rows_of
from penstock.engine.decisions import Decisions
from penstock.testing.clock import ManualClock

EXAMPLE = Path("examples/fraud/rules_project")
START = datetime(2026, 3, 2, 10, tzinfo=UTC)
CLOCK = ManualClock(to_us(START + timedelta(days=30)))
RULES = [None, None, "blocked card", "blocked card", None, "too fast", "too fast"]
VERSIONS = [0, 0, 1, 1, 2, 2, 2]
OVER = [False] * 5 + [False, True]
NEW = ("rule", "policy", "explored", "over_budget", "list__trusted", "list__blocked_cards")


def payment(i):
    at = START + timedelta(seconds=i)
    return {"payment_id": f"p{i}", "card_id": "c1", "email": "a@x.org", "paid_at": at, "amount": 10.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Seven payments: the third and fourth of a blocked card, the last two too fast, of which a day's budget allows one."""
    folder = tmp_path_factory.mktemp("said") / "rules"
    root = shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".penstock", "__pycache__"))
    text = (root / "definitions.py").read_text().replace("AlertCap(200,", "AlertCap(1,")
    (root / "definitions.py").write_text(text)
    (root / "penstock.toml").write_text(
        '[project]\ndefinitions = ["definitions.py"]\n[engine]\ndurability = "process"\n'
    )
    with Runtime.open(root, clock=CLOCK) as runtime:
        log = audit_log_of(root)
        runtime.ingest("payments", [payment(0), payment(1)])
        change(runtime, "blocked_cards", [Wanted({"card_id": "c1"})], actor="a", reason="r", log=log)
        runtime.ingest("payments", [payment(2), payment(3)])
        change(
            runtime,
            "blocked_cards",
            [Wanted({"card_id": "c1"}, listed=False)],
            actor="a",
            reason="r",
            log=log,
        )
        runtime.ingest("payments", [payment(i) for i in range(4, 7)])
    return root


@pytest.fixture
def runtime(root):
    with Runtime.open(root, clock=CLOCK) as runtime:
        yield runtime


def policy_of(root):
    with open_reader(root) as store:
        (policy,) = {Decisions.from_bytes(b.payload).policy for b in store.read_decisions()}
    return policy


def copied(root, tmp_path):
    return shutil.copytree(root, tmp_path / "rules")


def decisions_of(root):
    store, position = store_of(root)
    return store.table("decisions/checkout").read(0, position)


def test_the_offline_table(root, tmp_path):
    root = copied(root, tmp_path)
    sync(root)
    table = decisions_of(root)
    assert table.column("rule").to_pylist() == RULES
    assert table.column("list__blocked_cards").to_pylist() == VERSIONS
    assert table.column("list__trusted").to_pylist() == [0] * 7
    assert table.column("over_budget").to_pylist() == OVER
    assert set(table.column("policy").to_pylist()) == {policy_of(root)}
    assert [str(table.schema.field(name).type) for name in NEW] == [
        "string",
        "string",
        "bool",
        "bool",
        "int64",
        "int64",
    ]


def test_an_offline_table_of_an_older_penstock_gets_the_columns(root, tmp_path, monkeypatch):
    root = copied(root, tmp_path)
    beside = exported_rows._beside

    def as_before(*arguments):
        return beside(*arguments).drop_columns(
            [name for name in NEW if name in beside(*arguments).column_names]
        )

    with monkeypatch.context() as old:
        old.setattr(exported_rows, "_beside", as_before)
        sync(root)
    assert "rule" not in decisions_of(root).column_names
    with Runtime.open(root, clock=CLOCK) as runtime:
        runtime.ingest("payments", [payment(7)])
    sync(root)
    table = decisions_of(root)
    assert table.column("rule").to_pylist() == [None] * 7 + ["too fast"]
    assert table.column("list__blocked_cards").to_pylist() == [None] * 7 + [2]
    assert table.column("over_budget").to_pylist() == [None] * 7 + [True]
    assert table.column("action").null_count == 0


def test_one_append_may_hold_decisions_with_and_without_lists(root, tmp_path):
    root = copied(root, tmp_path)
    sync(root)
    text = (root / "definitions.py").read_text()
    for rule in (
        'Rule("trusted customer", when=trusted, action="approve"),',
        'Rule("blocked card", when=blocked_cards, action="block"),',
    ):
        text = text.replace(rule, "")
    (root / "definitions.py").write_text(text)
    with Runtime.open(root, clock=CLOCK) as runtime:
        runtime.ingest("payments", [payment(7)])
    (root / "definitions.py").write_text((EXAMPLE / "definitions.py").read_text())
    with Runtime.open(root, clock=CLOCK) as runtime:
        runtime.ingest("payments", [payment(8)])
    sync(root)
    assert decisions_of(root).column("list__trusted").to_pylist() == [0] * 7 + [None, 0]


def test_results_in_kafka(runtime, root, tmp_path):
    sent = []
    follower = KafkaFollower(
        runtime.store,
        runtime.plan,
        KafkaSettings(predictions_topic="p"),
        send=lambda topic, key, value, headers: sent.append(json.loads(value)),
        flush=lambda: None,
        folder=tmp_path,
    )
    assert follower.step()
    assert [one["rule"] for one in sent] == RULES
    assert [one["lists"] for one in sent] == [{"trusted": 0, "blocked_cards": n} for n in VERSIONS]
    assert ["over_budget" in one["flags"] for one in sent] == OVER
    assert {one["policy"] for one in sent} == {policy_of(root)}


def test_rows_of_decisions_within_one_batch(runtime):
    """What a store in PostgreSQL gets: rows differ in lists where a change came in between."""
    taken_apart = rows_of(runtime.plan)
    found = []
    log = list(runtime.store.read_log(sources={"payments"}))
    for batch in runtime.store.read_decisions():
        own = [one for one in log if set(batch.positions.tolist()) <= set(one.positions.tolist())]
        rows = taken_apart(batch, own)
        found += [rows.kinds[kind] for kind in rows.kind_of.tolist()]
    assert [kind[3] or None for kind in found] == RULES
    assert [json.loads(kind[5])["blocked_cards"] for kind in found] == VERSIONS
    batch = next(iter(runtime.store.read_decisions()))
    decisions = Decisions.from_bytes(batch.payload)
    mixed = Decisions(
        **{
            **{name: getattr(decisions, name) for name in Decisions.__struct_fields__},
            "list_versions": np.array([[0, 7], [0, 8]], np.uint32),
        }
    )
    rows = taken_apart(DecisionBatch(batch.endpoint, batch.positions, payload=mixed.to_bytes()), log[:1])
    assert [json.loads(rows.kinds[kind][5])["blocked_cards"] for kind in rows.kind_of.tolist()] == [7, 8]
