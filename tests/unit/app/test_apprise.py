"""People are told by Apprise's own plugins, JSON over HTTP and mail over SMTP, to receivers that are there, away, or refuse."""

import json
import socket

import pytest

from penstock.app.alerting import alerting, statuses, try_out
from penstock.core.clock import SystemClock
from tests.unit.app.receiver import Receiver
from tests.unit.app.smtp_inbox import Inbox
from tests.unit.app.test_alerting import BLOCKED, told, wait_for
from tests.unit.app.told import open_project, pay

pytest.importorskip("apprise")
pytestmark = pytest.mark.filterwarnings(
    "ignore:'imghdr':DeprecationWarning"
)  # Apprise's, in Python 3.11 and 3.12
TEAM = 'Apprise(url_env="TEAM")'
GROUPED = f"""
block = Alert("block", on=OnDecision(checkout, action="block"), to=[{TEAM}], group_by=["country"], group_window=60 * minute)
"""
BUSY = f"""
busy = Alert("busy", on=OnMetric(checkout, "alert_rate", above=0.5, window=10 * minute, at_least=10), to=[{TEAM}])
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("penstock.monitoring.alerts.FIRST_RETRY_US", 1_000)
    monkeypatch.setattr("penstock.app.alert_sending.POLL_S", 0.01)
    monkeypatch.setattr("penstock.app.alerting.POLL_S", 0.01)


@pytest.fixture
def chat(monkeypatch):
    """Takes what Apprise's `json://` posts."""
    with Receiver(lambda: 200) as receiver:
        monkeypatch.setenv("TEAM", receiver.url.replace("http", "json"))
        yield receiver


@pytest.fixture
def mail(monkeypatch):
    """Takes what Apprise's `mailto://` sends."""
    with Inbox() as inbox:
        monkeypatch.setenv("TEAM", address(inbox.port))
        yield inbox


def address(port):
    return f"mailto://127.0.0.1:{port}/?from=penstock@shop.example&to=risk@shop.example&mode=insecure"


def decided(folder, alert, *batches):
    """A project that decided on these scores, each batch a run of its own."""
    with open_project(folder, alert) as runtime:
        first = 0
        for scores in batches:
            with alerting(runtime, finish=lambda: True):
                pay(runtime, scores, start=first)
            first += len(scores)


def test_a_chat_is_told_of_a_decision(tmp_path, chat):
    decided(tmp_path, BLOCKED.format(to=TEAM), [0.1, 0.95])
    (said,) = chat.bodies
    assert said["title"] == "block: block"
    assert said["message"] == (
        "endpoint checkout, event_id p1, time 2023-11-14T22:14:20+00:00, action block, score 0.95, model amount:1"
    )
    assert [row.state for row in told(tmp_path)] == ["sent"]


def test_a_group_is_one_message_with_its_count_and_the_first_few(tmp_path, chat):
    decided(tmp_path, GROUPED, [0.95] * 16)
    by_title = {(said["title"], said["message"].splitlines()[0].split("country ")[1]) for said in chat.bodies}
    assert by_title == {("block: 8 decisions", "DE"), ("block: 8 decisions", "FR")}
    for said in chat.bodies:
        _, *events = said["message"].splitlines()
        assert len(events) == 5
        assert all("score 0.95" in line for line in events)


def test_a_recovery_is_told_too(tmp_path, chat):
    decided(tmp_path, BUSY, [0.1] * 20, [0.95] * 20, [0.1] * 40)
    assert [said["title"] for said in chat.bodies] == ["busy: firing", "busy: resolved"]
    assert "metric alert_rate, value 1, bound 0.5, side above" in chat.bodies[0]["message"]


def test_mail_carries_the_same_words(tmp_path, mail):
    decided(tmp_path, BUSY + GROUPED, [0.1] * 20, [0.95] * 20, [0.1] * 40)
    subjects = sorted(message["subject"] for message in mail.taken)
    assert subjects == ["block: 10 decisions", "block: 10 decisions", "busy: firing", "busy: resolved"]
    firing = next(one for one in mail.taken if one["subject"] == "busy: firing")
    assert "risk@shop.example" in firing["to"]
    assert "metric alert_rate, value 1, bound 0.5" in firing.get_body(("plain",)).get_content()


def test_a_chat_that_refuses_is_told_in_the_end_everything_once(tmp_path, monkeypatch):
    answers = iter([503, 500, 429, 200, 503, *[200] * 10])
    with Receiver(lambda: next(answers)) as chat:
        monkeypatch.setenv("TEAM", chat.url.replace("http", "json"))
        with open_project(tmp_path, BLOCKED.format(to=TEAM)) as runtime, alerting(runtime):
            pay(runtime, [0.95, 0.96, 0.97])
            wait_for(lambda: len(chat.bodies) == 3)
        assert chat.asked == 7
        assert sorted(event_of(said) for said in chat.bodies) == ["p0", "p1", "p2"]
    assert [row.state for row in told(tmp_path)] == ["sent"] * 3


def event_of(said):
    return said["message"].partition("event_id ")[2].partition(",")[0]


def test_what_was_to_be_said_while_nobody_was_there_is_said_by_the_next_run(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("TEAM", f"json://127.0.0.1:{port}/told")
    with open_project(tmp_path, BLOCKED.format(to=TEAM)) as runtime:
        with alerting(runtime):
            pay(runtime, [0.95, 0.1])
            wait_for(lambda: [row.attempts >= 2 for row in told(tmp_path)] == [True])
        (row,) = told(tmp_path)
        assert (row.state, row.error) == ("waiting", "Apprise could not deliver it")
        assert statuses(runtime.project)[0].messages == {"waiting": 1}
        with Receiver(lambda: 200, port=port) as chat, alerting(runtime, finish=lambda: True):
            pay(runtime, [0.99], start=2)
        assert sorted(map(event_of, chat.bodies)) == ["p0", "p2"]
    assert {row.state for row in told(tmp_path)} == {"sent"}


def test_mail_that_is_put_off_comes_later(tmp_path, monkeypatch):
    answers = iter([451, 451, 250])
    with Inbox(lambda: next(answers)) as inbox:
        monkeypatch.setenv("TEAM", address(inbox.port))
        with open_project(tmp_path, BLOCKED.format(to=TEAM)) as runtime, alerting(runtime):
            pay(runtime, [0.95])
            wait_for(lambda: inbox.taken)
        assert (inbox.asked, len(inbox.taken)) == (3, 1)
    assert [row.state for row in told(tmp_path)] == ["sent"]


def test_a_test_message_comes_through(tmp_path, chat):
    with open_project(tmp_path, BLOCKED.format(to=TEAM)) as runtime:
        (outcome,) = try_out(runtime.project.alerts["block"], clock=SystemClock()).values()
    assert outcome.delivered
    assert json.loads(chat.taken[0][1])["title"] == "block: test"


@pytest.fixture
def faulty():
    """A plugin whose own code raises what no library foresees, where Apprise does not catch it: while it reads the address."""
    from apprise.manager_plugins import NotificationManager
    from apprise.plugins import NotifyBase

    class Faulty(NotifyBase):
        app_id, secure_protocol, templates = "Faulty", "faulty", ("{schema}://{host}",)
        asked, broken = 0, True

        @staticmethod
        def parse_url(url, **_named):
            Faulty.asked += 1
            if Faulty.broken:
                raise ZeroDivisionError(f"in {url}")
            return NotifyBase.parse_url(url)

        def url(self, *_args, **_named):
            return "faulty://host"

        def send(self, body, **_named):
            Faulty.said.append(body)
            return True

    Faulty.said = []
    manager = NotificationManager()
    assert manager.add(Faulty, schemas="faulty")
    yield Faulty
    manager.remove("faulty")


def test_a_plugin_that_raises_is_an_attempt_that_failed_and_the_alert_is_told_later(
    tmp_path, monkeypatch, faulty
):
    monkeypatch.setenv("TEAM", "faulty://secret-host")
    with open_project(tmp_path, BLOCKED.format(to=TEAM)) as runtime, alerting(runtime) as alerts:
        pay(runtime, [0.95])
        wait_for(lambda: faulty.asked >= 3)
        wait_for(lambda: alerts.outcomes()["block", "failed"] >= 2)
        (row,) = told(tmp_path)
        assert row.state == "waiting"
        assert row.error == "Apprise's plugin failed with an error of its own: ZeroDivisionError"
        faulty.broken = False
        wait_for(lambda: [row.state for row in told(tmp_path)] == ["sent"])
        assert alerts.outcomes()["block", "sent"] == 1
    assert len(faulty.said) == 1


def test_reasons_that_raise_are_left_out_counted_and_told(tmp_path, monkeypatch, chat):
    def boom(*_args, **_named):
        raise ZeroDivisionError("a library of its own")

    monkeypatch.setattr("penstock.app.reasons.Reasoners.of", boom)
    monkeypatch.setattr("penstock.app.alerting._LOOK_EVERY_S", 0.01)
    with open_project(tmp_path, BLOCKED.format(to=TEAM)) as runtime, alerting(runtime):
        pay(runtime, [0.95, 0.96])
        wait_for(lambda: len(chat.bodies) == 2)
        wait_for(lambda: "2 told without reasons" in runtime.problems.get("alerts", ""))
    assert "ZeroDivisionError" in runtime.problems["alerts"]


def test_the_thread_that_reads_the_log_goes_on_after_what_nobody_foresaw(tmp_path, monkeypatch, chat):
    from penstock.app.alert_matching import Matcher

    right, failures = Matcher.told, iter([True] * 3)

    def sometimes(self, *arguments):
        if next(failures, False):
            raise ZeroDivisionError("once more")
        return right(self, *arguments)

    monkeypatch.setattr(Matcher, "told", sometimes)
    with open_project(tmp_path, BLOCKED.format(to=TEAM)) as runtime, alerting(runtime):
        pay(runtime, [0.95])
        wait_for(lambda: len(chat.bodies) == 1)
    assert next(failures, None) is None, "it failed three times before"
