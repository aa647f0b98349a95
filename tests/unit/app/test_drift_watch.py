"""Drift as it happens: noticed once, the same however the watch was cut, killed or begun again, and told to whoever waits for it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import msgspec
import pytest
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.alert_metrics import metric_value
from penstock.app.drift_watch import DriftWatch, following, live_streams, read_state, state_path
from penstock.app.drifting import reference_of as read_reference
from penstock.app.measuring import monitor_of
from penstock.app.retraining import Retrainer
from penstock.app.retraining_journal import Journal
from penstock.app.runtime import audit_log_of, open_reader, plan_of, registry_of
from penstock.cli.main import app
from penstock.core.errors import DefinitionError
from penstock.definitions.alerts import OnMetric
from penstock.definitions.project import load_project
from penstock.models.triggers import Trigger
from penstock.testing.clock import ManualClock
from tests.unit.app.fraud_shop import Feed, stream, write_project

DAY = 720
HAND = Trigger("hand", "by hand")
WAITING = "new_labels=100_000, on_drift=True"
LIVE = "live=['score', 'error', 'payment.first'], "


@pytest.fixture(autouse=True)
def river():
    pytest.importorskip("river", reason="penstock[river] is not installed")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """The process that checks a version has tests of its own; small blocks, so that a week is enough."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
        patched.setattr("penstock.app.training.draw", lambda *_: {})
        patched.setattr("penstock.monitoring.change_points.BLOCK", 20)
        patched.setattr("penstock.monitoring.change_points.CALIBRATION", 30)
        yield


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A project with a version in Production, days as it was trained on, then days on which `first` is larger."""
    folder, clock = tmp_path_factory.mktemp("moved"), ManualClock(1_800_000_000_000_000)
    write_project(folder, WAITING, monitor=LIVE)
    with Runtime.open(folder, clock=clock) as runtime:
        feed = Feed(runtime)
        feed.send(2 * DAY)
        assert retrainer_of(runtime, clock).attempt("fraud", HAND).outcome == "promoted"
        runtime.load_routes()
        feed.send(3 * DAY)
        quiet = runtime.store.next_position
        feed.send(2 * DAY, changed=True, shift=1.0)
    return folder, quiet


def watch_of(folder, store):
    project = load_project(folder)
    return DriftWatch(project, plan_of(project), store, registry_of(folder))


def caught_up(folder):
    """The state of one pass from nothing."""
    state_path(folder, "checkout").unlink(missing_ok=True)
    with open_reader(folder) as store:
        watch_of(folder, store).catch_up()
    return read_state(folder, "checkout")


def test_a_change_is_noticed_where_it_is_and_nothing_before(moved):
    folder, quiet = moved
    state = caught_up(folder)
    assert {one.stream for one in state.alarms} >= {"payment.first", "score"}
    assert min(one.position for one in state.alarms) > quiet, "and nothing before"
    (first,) = [one for one in state.alarms if one.stream == "payment.first"]
    assert abs(first.after - first.before - 1.0) < 0.3
    assert first.version == "fraud:1"
    assert "payment.first" in state.newest_look.drifted
    assert all(not one.look.drifted for one in state.looked if one.position <= quiet)
    assert state.changes_since(0)[0] in {"score", "payment.first"}
    assert state.changes_since(state.position) == ()
    assert sum(state.raised.values()) == len(state.alarms)
    assert state_path(folder, "checkout").stat().st_size < 100_000


def test_the_error_is_heard_when_labels_come(moved):
    """Frauds follow another pattern: the loss of each decision says so, as far as labels have come."""
    folder, quiet = moved
    state = caught_up(folder)
    (error,) = [one for one in state.alarms if one.stream == "error"]
    assert error.position > quiet
    assert error.after > 1.5 * error.before


@pytest.mark.parametrize("seed", [1, 2])
def test_however_it_is_cut_and_killed_nothing_is_doubled_or_lost(moved, seed, monkeypatch):
    """Stretches of random length, begun again from the file each time; half of the work is lost before it is kept."""
    folder, _ = moved
    whole = caught_up(folder)
    state_path(folder, "checkout").unlink()
    chance = random.Random(seed)
    with open_reader(folder) as store:
        for _ in range(1_000):
            monkeypatch.setattr("penstock.app.drift_watch.STRETCH_ROWS", chance.randrange(1, 900))
            killed = chance.random() < 0.5
            with monkeypatch.context() as patched:
                if killed:
                    patched.setattr("penstock.app.drift_watch._write", lambda *_: None)
                watch_of(folder, store).catch_up(wait=lambda: True)
            found = read_state(folder, "checkout")
            if found is not None and found.position == store.next_position:
                break
    assert msgspec.json.encode(found) == msgspec.json.encode(whole)


def test_the_registry_is_read_when_it_has_changed_only(moved, monkeypatch):
    folder, _ = moved
    asked = []
    monkeypatch.setattr(
        "penstock.app.drift_watch.reference_of", lambda *given: asked.append(given) or read_reference(*given)
    )
    with open_reader(folder) as store:
        watch = watch_of(folder, store)
        for _ in range(5):
            watch.catch_up()
        assert len(asked) == 1
        registry = registry_of(folder)
        registry.archive("fraud", 1, actor="ann", reason="nothing is in Production")
        watch.catch_up()
        watch.catch_up()
        assert len(asked) == 2
        registry.promote("fraud", 1, stage="Production", actor="ann", reason="again")
        watch.catch_up()
        assert len(asked) == 3


def test_a_process_that_is_killed_goes_on_where_it_stood(moved):
    folder, _ = moved
    state_path(folder, "checkout").unlink(missing_ok=True)
    command = [sys.executable, "-m", "penstock.app.drift_beside", str(folder)]
    for last in (False, True):
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not state_path(folder, "checkout").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if last:
            child.communicate(b".", timeout=60)
        else:
            os.kill(child.pid, signal.SIGKILL)
            child.communicate()
    found = read_state(folder, "checkout")
    with open_reader(folder) as store:
        assert found.position == store.next_position
    assert found.looked == caught_up(folder).looked  # its blocks are larger than those of this module


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"store": 1}'])
def test_a_file_that_is_damaged_is_begun_anew(moved, content):
    folder, _ = moved
    whole = caught_up(folder)
    state_path(folder, "checkout").write_bytes(content)
    assert read_state(folder, "checkout") is None
    with open_reader(folder) as store:
        watch_of(folder, store).catch_up()
    assert read_state(folder, "checkout").alarms == whole.alarms


def test_two_never_follow_at_once_and_each_goes_on_from_the_newest(moved):
    folder, _ = moved
    with following(folder) as mine, following(folder) as also:
        assert (mine, also) == (True, False)
    whole = caught_up(folder)
    with open_reader(folder) as store:
        one, other = watch_of(folder, store), watch_of(folder, store)
        state_path(folder, "checkout").unlink()
        one.catch_up(wait=lambda: True)
        other.catch_up()
        assert one.catch_up() is False
    assert read_state(folder, "checkout") == whole


def test_alerts_read_what_the_watch_found(moved, monkeypatch):
    folder, _ = moved
    state = caught_up(folder)
    project = load_project(folder)
    endpoint, plan = project.endpoints["checkout"], plan_of(project)
    with open_reader(folder) as store:

        def value(metric, **options):
            return metric_value(folder, store, plan, project, OnMetric(endpoint, metric, above=0, **options))

        assert value("drifted_columns") == len(state.newest_look.drifted) > 0
        assert value("drifted_columns", at_least=1_000_000) is None
        assert value("change_points") == 0, "they are older than a drift window"
        monkeypatch.setattr("penstock.app.alert_metrics.to_us", lambda _: 3 * 86_400_000_000)
        assert value("change_points") == len(state.alarms) == 3


@pytest.mark.parametrize(
    ("rules", "monitor", "streams"),
    [
        ("", "", ()),
        ("on_drift=True", "", ("score", "error")),
        ("", "live=['payment.first'], ", ("payment.first",)),
        ("on_drift=True", "live=[], ", ()),
    ],
)
def test_it_listens_where_somebody_waits_and_to_what_is_said(tmp_path, rules, monitor, streams):
    project = load_project(write_project(tmp_path, rules, monitor=monitor))
    assert live_streams(project, monitor_of(project, "checkout")) == streams


def test_a_stream_that_is_not_there_fails_where_it_is_written(tmp_path):
    with pytest.raises(DefinitionError, match="allowed is a list of score, error, "):
        load_project(write_project(tmp_path, monitor="live=['amount'], "))


def test_a_run_whose_drift_alone_says_so_trains_and_promotes_without_a_hand(tmp_path):
    """Too few labels for the trigger of labels, no schedule, no floor: what is asked changes, and nobody does anything."""
    clock = ManualClock(1_800_000_000_000_000)
    write_project(tmp_path, WAITING + ", min_positives=250, cooldown=timedelta(0)")
    with Runtime.open(tmp_path, clock=clock) as runtime:
        feed = Feed(runtime)
        feed.send(2 * DAY)
        assert retrainer_of(runtime, clock).attempt("fraud", HAND).outcome == "promoted"
        feed.send(2 * DAY)
        assert retrainer_of(runtime, clock).look("fraud") is None, "nothing changed"
        assert read_state(tmp_path, "checkout") is None, "too few labels: drift is not asked for"
    events, labels = stream(4 * DAY, 4 * DAY, changed=True, shift=1.0)
    given = []
    for name, rows in (("payments", events), ("frauds", labels)):
        path = tmp_path / f"{name}.ndjson"
        path.write_text("".join(json.dumps(row, default=lambda at: at.isoformat()) + "\n" for row in rows))
        given.append(f"{name}={path}")
    ran = CliRunner().invoke(app, ["run", *given, "--project", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    attempt = Journal(audit_log_of(tmp_path), "fraud").attempts()[-1]
    assert (attempt.trigger, attempt.outcome) == ("drift", "promoted"), attempt
    assert "payment.first" in attempt.why
    assert "fraud:2 promoted" in ran.stdout
    registry = registry_of(tmp_path)
    row = registry.history("fraud")[-1]
    assert (row.actor, row.stage, row.version) == ("retraining", "Production", 2)
    assert json.loads(registry.report(row))["verdict"] == "pass"
    assert registry.get("fraud", "champion").version == 2
    assert {one.version for one in read_state(tmp_path, "checkout").looked} >= {"fraud:1"}


def retrainer_of(runtime, clock):
    audit, registry = runtime.routes.audit, runtime.registry
    return Retrainer(runtime.project, runtime.store, registry=registry, audit=audit, clock=clock)
