"""A rule on a metric of one version, arm or segment: told of that part alone, the same figure as `penstock metrics` has of it."""

from datetime import timedelta

import pytest

from penstock.app import Runtime
from penstock.app.alert_metrics import metric_value
from penstock.app.alerting import alerting, statuses
from penstock.app.measuring import metrics_of, monitor_of, stored_board
from penstock.app.runtime import open_reader, plan_of
from penstock.core.errors import DefinitionError
from penstock.definitions.alerts import OnMetric
from penstock.definitions.monitors import Monitor
from penstock.definitions.project import load_project
from tests.unit.app import arms
from tests.unit.app.receiver import SECRET, Receiver
from tests.unit.app.told import hook, open_project, pay, write_project
from tests.unit.app.watched import labels, open_watched, payments, write

pytest.importorskip("httpx")
RULE = 'busy = Alert("busy", on=OnMetric(checkout, "alert_rate", above=0.5, window=60 * minute, at_least=10, of={of}), to=[{to}])\n'


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setenv("CARDS_SECRET", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("penstock.app.alert_sending.POLL_S", 0.01)
    monkeypatch.setattr("penstock.app.alerting.POLL_S", 0.01)


@pytest.mark.parametrize(
    ("of", "fires"),
    [
        ({"segment:country": "DE"}, True),
        ({"segment:country": "FR"}, False),
        ({"segment:payment.large": True}, True),
        ({"segment:payment.large": False}, False),
        ({"segment:payment.amount": "0.5…1"}, True),
        ({"version": "amount:1"}, False),
        ({"version": "amount:2"}, False),
    ],
)
def test_a_segment_or_version_is_measured_apart(tmp_path, of, fires):
    """Germans are blocked, the French are not: half of all decisions are alerts, not more."""
    with Receiver() as team:
        rule = RULE.format(of=of, to=hook(team))
        with open_project(tmp_path, rule) as runtime, alerting(runtime, finish=lambda: True):
            pay(runtime, [0.99 if i % 2 else 0.1 for i in range(60)])
        assert [body["type"] for body in team.bodies] == (["alert.firing"] if fires else [])
        if fires:
            (dimension, value), data = next(iter(of.items())), team.bodies[0]["data"]
            assert data["of"] == {dimension: "1" if value is True else value}
            assert data["value"] == 1.0
        (status,) = statuses(load_project(tmp_path))
        assert status.on.startswith(f"checkout: alert_rate of {next(iter(of)).removeprefix('segment:')} ")
        assert status.state == ("firing" if fires else "ok")


def test_arms_are_measured_apart(tmp_path):
    with Receiver() as team:
        rule = (
            'busy = Alert("busy", on=OnMetric(checkout, "alert_rate", above=0.5, window=day, at_least=10, '
            f'of={{"arm": "challenger"}}), to=[{hook(team)}])\n'
        )
        arms.write_project(tmp_path, arms.DEFINITIONS + rule)
        with Runtime.open(tmp_path) as runtime, alerting(runtime, finish=lambda: True):
            runtime.routes.serve("checkout", arms.Constant("fraud:1", 0.1), arm="champion")
            runtime.routes.serve("checkout", arms.Constant("fraud:2", 0.99), arm="challenger")
            runtime.ingest("payments", arms.events(0, 500))
        (body,) = team.bodies
        assert (body["data"]["value"], body["data"]["of"]) == (1.0, {"arm": "challenger"})


@pytest.mark.parametrize(
    "of", [{"segment:country": "DE"}, {"segment:payment.large": "1"}, {"version": "amount:1"}]
)
def test_quality_of_a_part_is_that_of_penstock_metrics(tmp_path, of):
    """In the windows of all decisions, also where more values came before than metrics tell apart."""
    with open_watched(write(tmp_path)) as runtime:
        rows = payments(400)
        runtime.ingest("payments", rows)
        runtime.ingest("charges", labels(rows))
    project = load_project(tmp_path)
    plan, endpoint = plan_of(project), project.endpoints["checkout"]
    (dimension,) = of
    with open_reader(tmp_path) as store:
        on = OnMetric(endpoint, "average_precision", below=0.9, window=timedelta(days=6), at_least=5, of=of)
        value = metric_value(tmp_path, store, plan, project, on)
        own = monitor_of(project, "checkout")
        watched = Monitor(
            endpoint=endpoint,
            segments=own.segments,
            max_segments=20,
            windows=[timedelta(days=6)],
            delay=own.delay,
        )
        found = metrics_of(stored_board(store, plan, watched), watched, by=dimension)
        (group,) = [one for one in found.groups if one.value == next(iter(of.values()))]
        assert value == group.windows[0].quality.average_precision
        assert value is not None
        nobody = OnMetric(endpoint, "average_precision", below=0.9, of={"segment:country": "XX"})
        assert metric_value(tmp_path, store, plan, project, nobody) is None


def test_a_rule_that_is_turned_to_another_part_starts_measuring_anew(tmp_path):
    with Receiver() as team:
        for country, states in (("DE", "firing"), ("FR", "firing")):
            rule = RULE.format(of={"segment:country": country}, to=hook(team))
            with open_project(tmp_path, rule) as runtime, alerting(runtime, finish=lambda: True):
                if country == "DE":
                    pay(runtime, [0.99 if i % 2 else 0.1 for i in range(60)])
            assert statuses(load_project(tmp_path))[0].state == states, "unknown changes nothing"
        with open_project(tmp_path, rule) as runtime, alerting(runtime, finish=lambda: True):
            pay(runtime, [0.99 if i % 2 else 0.1 for i in range(60)], start=60)
        assert statuses(load_project(tmp_path))[0].state == "ok"
        assert [body["type"] for body in team.bodies] == ["alert.firing", "alert.resolved"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('OnMetric(checkout, "alert_rate", above=0.5, of={"segment:contry": "DE"})', "segment:country"),
        ('OnMetric(checkout, "alert_rate", above=0.5, of={"arm": "challenger"})', "champion"),
        ('OnMetric(checkout, "alert_rate", above=0.5, of={})', "one version, arm or segment"),
        ('OnMetric(checkout, "alert_rate", above=0.5, of={"version": None})', "one version, arm or segment"),
        ('OnMetric(checkout, "drifted_columns", above=0, of={"version": "fraud:1"})', "in Production"),
    ],
)
def test_a_part_that_cannot_be_is_refused_where_it_is_written(tmp_path, rule, said):
    with pytest.raises(DefinitionError, match=said):
        load_project(write_project(tmp_path, f"rule = {rule}\n"))
