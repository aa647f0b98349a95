"""An alert on decisions bans: the key of a blocked event is on the list, once, and the next event of it is blocked by the list's rule."""

import json
import sqlite3
import threading
import time
from contextlib import closing
from textwrap import dedent

import pytest
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.alerting import alerting, alerts_path, try_out
from penstock.app.inputs import inputs_of
from penstock.app.key_lists import changes_of
from penstock.app.running import Runner
from penstock.app.runtime import audit_log_of, open_reader, plan_of
from penstock.cli.main import app
from penstock.core.clock import SystemClock
from penstock.core.errors import DefinitionError
from penstock.definitions.project import load_project
from tests.unit.app.test_alerting import told, wait_for
from tests.unit.app.told import MINUTE_US, START_US, AmountIsScore

DEFINITIONS = dedent("""
    from datetime import timedelta
    from sklearn.linear_model import LogisticRegression
    from penstock import *
    from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

    amount = Field("amount", Float64)
    card = Entity("card", [Field("card_id", String)])
    payments = StreamSource("payments", PushConfig(), event_id_field="id", card_numbers="tokenise",
        schema=[Field("id", String), Field("t", Timestamp), amount, Field("card_id", String, optional=True)])
    charges = LabelSource("charges", of=payments, label=Field("is_fraud", Bool), known_at="reported_at")
    blocked = KeyList("blocked_cards", card, card_numbers="tokenise")

    @realtime_feature_view(sources=[RequestSource([amount])],
        features=[Attribute("amount", Float64), Attribute("large", Bool)])
    def payment(request):
        return {"amount": request["amount"], "large": request["amount"] > 0.95}

    service = FeatureService("service", features=[payment])
    day, minute = timedelta(days=1), timedelta(minutes=1)
    model = Model("model", features=service, label=charges, estimator=LogisticRegression(),
        split=TimeSplit(train=day, delay=day, test=day))
    checkout = Endpoint("checkout", source=payments, model=model,
        policy=Policy("policy", actions={"review": 0.5, "block": 0.9},
            rules=[Rule("blocked card", when=blocked, action="review")]))
""")
BAN = 'ban = Alert("ban", on=OnDecision(checkout, action="block"), to=[AddTo(blocked, expires=30 * day)])\n'
NUMBER = "4539578763621486"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr("penstock.monitoring.alerts.FIRST_RETRY_US", 1_000)
    monkeypatch.setattr("penstock.app.alert_sending.POLL_S", 0.01)
    monkeypatch.setattr("penstock.app.alerting.POLL_S", 0.01)


def write(folder, alert=BAN, definitions=DEFINITIONS):
    (folder / "penstock.toml").write_text('[project]\nname = "ban"\n[engine]\ndurability = "process"\n')
    (folder / "definitions.py").write_text(definitions + alert)
    return folder


def opened(folder):
    runtime = Runtime.open(folder)
    runtime.routes.serve("checkout", AmountIsScore())
    return runtime


def pay(runtime, number, score, card="c1"):
    row = {"id": f"p{number}", "t": START_US + number * MINUTE_US, "amount": score, "card_id": card}
    (answer,) = runtime.ingest("payments", [row])
    return answer


def history(folder):
    plan = plan_of(load_project(folder))
    with open_reader(folder) as store:
        return list(changes_of(store, plan.sources["blocked_cards"]))


def test_a_card_that_a_score_blocks_is_banned_and_its_next_event_meets_the_rule(tmp_path):
    write(tmp_path)
    with opened(tmp_path) as runtime:
        with alerting(runtime, finish=lambda: True):
            assert pay(runtime, 1, 0.95).rule is None
            pay(runtime, 2, 0.1, card="c2")
            pay(runtime, 3, 0.99, card=None)  # nobody to ban
        banned, free = pay(runtime, 4, 0.1), pay(runtime, 5, 0.1, card="c2")
        assert (banned.action, banned.rule, banned.lists) == ("review", "blocked card", {"blocked_cards": 1})
        assert (free.action, free.rule) == ("approve", None)
        last = pay(runtime, 1 + 30 * 24 * 60, 0.1)
        assert last.rule is None, "it expires thirty days after the event"
    (change,) = history(tmp_path)
    assert (change.key, change.listed, change.actor) == (("c1",), True, "ban")
    assert change.reason == "block of event p1"
    assert [(row.alert, row.state, row.target) for row in told(tmp_path)] == [
        ("ban", "sent", "list:blocked_cards")
    ]
    shown = CliRunner().invoke(
        app, ["lists", "history", "blocked_cards", "--json", "--project", str(tmp_path)]
    )
    assert [(one["actor"], one["key"]) for one in json.loads(shown.output)] == [("ban", {"card_id": "c1"})]
    noted = [(row.action, row.subject, row.actor) for row in audit_log_of(tmp_path).rows()]
    assert noted == [("list.change", "blocked_cards", "ban")]


def test_a_message_that_is_sent_again_changes_nothing(tmp_path):
    """The engine took the change, and the outbox was cut off before it noted that."""
    write(tmp_path)
    for _ in range(2):
        with opened(tmp_path) as runtime, alerting(runtime, finish=lambda: True):
            pay(runtime, 1, 0.95)
        with closing(sqlite3.connect(alerts_path(tmp_path))) as outbox, outbox:
            outbox.execute("UPDATE outbox SET state = 'waiting', done_us = NULL")
    assert len(history(tmp_path)) == 1


def test_what_was_decided_while_nothing_ran_is_banned_by_the_next_run(tmp_path):
    write(tmp_path)
    with opened(tmp_path) as runtime:
        with alerting(runtime):
            pass
        pay(runtime, 1, 0.95, card=f"{NUMBER[:4]} {NUMBER[4:8]} {NUMBER[8:12]} {NUMBER[12:]}")
    assert history(tmp_path) == []
    with opened(tmp_path) as runtime, alerting(runtime, finish=lambda: True):
        pass
    (change,) = history(tmp_path)
    assert change.key[0].startswith("card_"), "a number is a token, as in the stream"
    with opened(tmp_path) as runtime:
        assert pay(runtime, 2, 0.1, card=NUMBER).rule == "blocked card"


def test_a_run_takes_it_in_between_two_micro_batches(tmp_path):
    """As `penstock up` does: the engine's thread is the runner's; who decides waits for nothing."""
    write(
        tmp_path, definitions=DEFINITIONS.replace("PushConfig()", 'FileConfig("payments.ndjson", "ndjson")')
    )
    lines = tmp_path / "payments.ndjson"
    row = {"id": "p1", "t": START_US, "amount": 0.95, "card_id": "c1"}
    lines.write_text(json.dumps(row) + "\n")
    stop = threading.Event()
    with opened(tmp_path) as runtime, alerting(runtime):
        runner = Runner(runtime, inputs_of(runtime, {}), stop=stop)

        def drive():
            wait_for(lambda: [row.state for row in told(tmp_path)] == ["sent"])
            with lines.open("a") as file:
                file.write(json.dumps({**row, "id": "p2", "amount": 0.1}) + "\n")
            wait_for(lambda: runtime.store.next_position == 3)
            stop.set()

        thread = threading.Thread(target=drive)
        thread.start()
        runner.follow(poll_s=0.01)
        thread.join()
    with opened(tmp_path) as runtime:
        again = pay(runtime, 9, 0.1)
        assert again.rule == "blocked card"
    assert [change.position for change in history(tmp_path)] == [1]


def test_an_engine_that_does_not_take_it_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.app.alert_lists.PATIENCE_S", 0.05)
    write(tmp_path)
    with opened(tmp_path) as runtime:
        with alerting(runtime):
            pay(runtime, 1, 0.95)
            wait_for(lambda: [row.attempts >= 2 for row in told(tmp_path)] == [True])
            (row,) = told(tmp_path)
            assert (row.state, row.error) == ("waiting", "the engine did not take it within 0.05 s")
        monkeypatch.setattr("penstock.app.alert_lists.PATIENCE_S", 10.0)
        with alerting(runtime, finish=lambda: True):
            time.sleep(0.01)
    assert len(history(tmp_path)) == 1


def test_a_list_that_nothing_uses_is_told(tmp_path):
    unused = 'other = KeyList("other", card, card_numbers="tokenise")\n' + BAN.replace(
        "AddTo(blocked", "AddTo(other"
    )
    with opened(write(tmp_path, unused)) as runtime, alerting(runtime):
        assert "no rule, model or service uses the list other" in runtime.problems["alerts"]
        pay(runtime, 1, 0.95)
        wait_for(lambda: [row.attempts >= 1 for row in told(tmp_path)] == [True])
        assert told(tmp_path)[0].state == "waiting"


def test_a_test_message_bans_nobody(tmp_path):
    with opened(write(tmp_path)) as runtime:
        (outcome,) = try_out(runtime.project.alerts["ban"], clock=SystemClock()).values()
    assert outcome.delivered
    assert history(tmp_path) == []


@pytest.mark.parametrize(
    ("alert", "said"),
    [
        ('Alert("a", on=OnMetric(checkout, "alert_rate", above=0.5), to=[AddTo(blocked)])', "a metric"),
        (
            'Alert("a", on=OnDecision(checkout, action="block"), to=[AddTo(blocked)], group_window=minute)',
            "a group",
        ),
        (
            'Alert("a", on=OnDecision(checkout, action="block"), to=[AddTo(blocked, join_key_map={"card_id": "no"})])',
            "not there",
        ),
        (
            'Alert("a", on=OnDecision(checkout, action="block"), to=[AddTo(blocked, join_key_map={"card": "id"})])',
            "join keys card_id",
        ),
        ('Alert("a", on=OnDecision(checkout, action="block"), to=[AddTo(blocked, expires=-day)])', "above 0"),
        ('Alert("a", on=OnDecision(checkout, action="block"), to=[AddTo("blocked")])', "KeyList"),
        (
            'Alert("a", on=OnDecision(checkout, action="block"), to=[AddTo(KeyList("plain", card))])',
            "card_numbers",
        ),
    ],
)
def test_what_cannot_be_listed_is_refused_where_it_is_written(tmp_path, alert, said):
    with pytest.raises(DefinitionError, match=said):
        load_project(write(tmp_path, f"a = {alert}\n"))
