"""Alarms of a detector by version, segment and window: each decision as it was decided."""

from datetime import timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from penstock.app.anomalies import alarms_by_decision
from penstock.app.measuring import monitor_of, stored_metrics
from penstock.app.runtime import open_reader, plan_of, registry_of
from penstock.app.version_thresholds import VersionThresholds
from penstock.cli.main import app
from penstock.core.time import to_us
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.engine.lookup import RowReader
from penstock.engine.routing import DecidedBy
from penstock.models.dataset import labels_at
from penstock.models.segments import NONE
from penstock.monitoring.nab import PROFILES, anomaly_windows, nab_score_of
from tests.unit.app import shop
from tests.unit.app.test_anomalies import LABELLED, trained, write

WATCHED = (
    LABELLED
    + """
monitor = Monitor(endpoint=endpoint, segments=["shop"], windows=[12 * HOUR, 24 * HOUR], delay=6 * HOUR,
    nab_profile="reward_low_FN_rate")
"""
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Decisions of two versions, the second with another threshold."""
    root = write(tmp_path_factory.mktemp("anomalies") / "shop", WATCHED)
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 300)
    for number, budget in ((1, 60), (2, 200)):
        text = WATCHED.replace("AlertBudget(3)", f"AlertBudget({budget})")
        (root / "definitions.py").write_text(text)
        trained(root)
        registry_of(root, clock=shop.CLOCK).promote("model", number, actor="test", reason="test")
        with shop.open_project(root) as runtime:
            shop.feed(runtime, 200, seed=number, first=100 + 200 * number)
    return root


def metrics(root, **options):
    project = load_project(root)
    plan = plan_of(project)
    thresholds = VersionThresholds(plan.endpoints["endpoint"], registry_of(root))
    with open_reader(root) as store:
        return stored_metrics(store, plan, monitor_of(project), thresholds=thresholds, **options)


def stored(root):
    """Time, card, shop, version, alarm and label of each decision with a score, read on another way."""
    plan, found = plan_of(load_project(root)), []
    with open_reader(root) as store:
        for batch in store.read_decisions():
            decisions = Decisions.from_bytes(batch.payload)
            first, last = int(batch.positions[0]), int(batch.positions[-1]) + 1
            labels, _ = labels_at(batch.positions, store.latest_labels(first, last))
            events = RowReader(store, plan.sources).events("payments", batch.positions)
            cards, shops = events["card_id"], events["shop"].to_strings()
            for row, score in enumerate(decisions.scores.tolist()):
                if score == score:
                    card = (
                        None if cards.valid is not None and not cards.valid[row] else int(cards.values[row])
                    )
                    version = decisions.decided_by(row).version.partition("+")[0]
                    alarm = bool(decisions.taken[row] > 0)
                    time = int(events["at"].values[row])
                    found.append((time, card, shops[row], version, alarm, float(labels[row])))
    return found


def nab_by_hand(rows, profile="reward_low_FN_rate"):
    series = {}
    for _, card, _, _, alarm, label in sorted(rows, key=lambda row: row[0]):
        if label == label:
            series.setdefault(card, []).append((alarm, label))
    parts = [
        (np.array([a for a, _ in one]), anomaly_windows(np.array([label for _, label in one])))
        for one in series.values()
    ]
    return nab_score_of(parts, profile=PROFILES[profile])


def test_the_score_of_a_group_is_that_of_its_decisions_as_they_were_decided(root):
    rows, found = stored(root), metrics(root, by="version")
    assert found.anomalies.alarms[0].nab == pytest.approx(nab_by_hand(rows), rel=1e-12)
    scores = {}
    for group in found.groups:
        own = [row for row in rows if row[3] == group.value]
        if not own:
            assert group.alarms == ()
            continue
        (alarm,) = group.alarms
        assert alarm.alerts == sum(row[4] for row in own)
        assert alarm.nab == pytest.approx(nab_by_hand(own), rel=1e-12)
        scores[group.value] = alarm
    assert scores.keys() == {"model:1", "model:2"}
    assert scores["model:1"].threshold > scores["model:2"].threshold
    assert (scores["model:1"].highest, found.anomalies.alarms[0].highest) == (
        None,
        scores["model:1"].threshold,
    )
    assert scores["model:2"].alerts > 0


def test_segments_and_windows(root):
    rows, found = stored(root), metrics(root, by="segment:shop")
    assert [group.value for group in found.groups] == sorted({row[2] or NONE for row in rows})
    judged = 0
    for group in found.groups:
        own = [row for row in rows if (row[2] or NONE) == group.value]
        assert sum(alarm.alerts for alarm in group.alarms) == sum(row[4] for row in own)
        for window in group.windows:
            inside = [row for row in own if window.start_us <= row[0] < window.end_us]
            assert window.quality.labelled + window.quality.pending == len(inside)
            if any(row[5] == 1 for row in inside):
                assert window.alarms[0].nab == pytest.approx(nab_by_hand(inside), rel=1e-12)
                judged += 1
    assert judged > 3
    assert [window.mature for window in found.windows] == [True, True, False]
    newest = max(row[0] for row in rows)
    assert found.windows[0].end_us <= newest - to_us(timedelta(hours=6)) + 1


def test_the_command_and_the_report_tell_of_groups(root):
    from penstock.app.metrics_report import metrics_report
    from penstock.serving.monitoring_shapes import metrics_of as shaped
    from tests.unit.serving.test_monitoring_routes import plain_dated

    for by in ("version", "segment:shop", "day"):
        shown = CliRunner().invoke(app, ["metrics", "--project", str(root), "--by", by])
        assert shown.exit_code == 0, shown.output
        assert "reward_low_FN_rate" in shown.output
        assert max(map(len, shown.output.splitlines())) <= 80
    project = load_project(root)
    plan = plan_of(project)
    with open_reader(root) as store:
        thresholds = VersionThresholds(plan.endpoints["endpoint"], registry_of(root))
        report = metrics_report(store, plan, monitor_of(project), thresholds=thresholds)
    got, wanted = shaped(plain_dated(report), "version"), metrics(root, by="version")
    assert got.task == "anomaly"
    assert got.anomalies.alarms[0].nab == wanted.anomalies.alarms[0].nab
    assert [[a.nab for w in one.windows for a in w.alarms] for one in got.groups] == [
        [a.nab for w in one.windows for a in w.alarms] for one in wanted.groups
    ]
    assert all(one.course for one in got.groups)


def decided(actions, taken, scores, **more):
    return Decisions(
        arms=(DecidedBy("", "", ""),),
        service="",
        actions=actions,
        scores=np.array(scores),
        taken=np.array(taken, np.uint8),
        flags=np.zeros(len(taken), np.uint8),
        vectors=np.zeros((len(taken), 0)),
        **more,
    )


def test_an_alarm_is_what_was_decided_whatever_thresholds_are_now():
    then = decided(("pass", "look", "stop"), [0, 1, 2], [0.4, 0.6, 0.95])
    now = np.tile([0.3, 0.99], (3, 1))
    assert alarms_by_decision(then, ["look", "stop"], now).tolist() == [
        [False, False], [True, False], [True, True],
    ]  # fmt: skip


def test_explored_events_count_as_what_their_score_meant():
    then = decided(("pass", "look"), [0, 0], [0.9, 0.1], meant=np.array([1, 0], np.uint8), explore=(0.0, 0.5))
    assert alarms_by_decision(then, ["look"], np.full((2, 1), 0.99)).tolist() == [[True], [False]]


def test_where_a_rule_decided_or_the_action_is_new_the_score_is_held_to_the_versions_threshold():
    fired = np.array([1, 2, 0], np.uint8)  # banned though nothing was strange, let pass though it was
    then = decided(("pass", "look", "ban"), [2, 0, 1], [0.1, 0.9, 0.9], rules=("list", "known"), fired=fired)
    limits = np.tile([0.5, 0.8], (3, 1))
    assert alarms_by_decision(then, ["look", "stop"], limits).tolist() == [
        [False, False], [True, True], [True, True],
    ]  # fmt: skip
    assert alarms_by_decision(then, ["ban"], np.full((3, 1), 0.5)).tolist() == [[False], [True], [False]]
