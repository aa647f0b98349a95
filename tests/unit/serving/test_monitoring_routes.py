"""Figures of endpoints over HTTP: what jobs make, and how it is kept, served and made anew."""

import io
import json
import time

import numpy as np
import pytest

from penstock.app.distributions import described, distributions
from penstock.app.measuring import metrics_of, monitor_of, stored_board
from penstock.app.metrics_report import CURVE_POINTS, metrics_report
from penstock.app.runtime import Runtime
from penstock.serving.job_kinds import KINDS
from penstock.serving.job_process import Speaker, plain
from penstock.serving.job_work import Work, run
from penstock.serving.jobs import Jobs
from penstock.serving.monitoring_shapes import (
    DistributionsShape,
    DriftShape,
    ExperimentShape,
    MetricsShape,
    curves_of,
)
from penstock.serving.monitoring_shapes import metrics_of as shaped
from tests.unit.app import watched
from tests.unit.serving.shop_server import asking, child_command, copied, template
from tests.unit.serving.test_jobs import until


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    """Decisions with and without labels, by two versions."""
    root = watched.write(tmp_path_factory.mktemp("watched"))
    rows = watched.payments(600)
    for version, part in (("amount:1", rows[:300]), ("amount:2", rows[300:])):
        with watched.open_watched(root, version) as runtime:
            runtime.ingest("payments", part)
            runtime.ingest("charges", watched.labels(part))
    return root


def test_a_report_has_the_figures_of_every_table(decided):
    with Runtime.open(decided, clock=watched.CLOCK) as runtime:
        monitor = monitor_of(runtime.project)
        found = metrics_report(runtime.store, runtime.plan, monitor)
        board = stored_board(runtime.store, runtime.plan, monitor)
        days = metrics_of(
            stored_board(runtime.store, runtime.plan, monitor, keep_all=True), monitor, by="day"
        )
        for by in ("version", "segment:country", "segment:payment.large"):
            wanted = metrics_of(board, monitor, by=by)
            got = shaped(plain_dated(found), by)
            assert [(one.value, one.quality.labelled) for one in got.groups] == [
                (one.value, one.quality.labelled) for one in wanted.groups
            ]
            assert [one.quality.average_precision for one in got.groups] == [
                one.quality.average_precision for one in wanted.groups
            ]
            for one, other in zip(got.groups, wanted.groups, strict=True):
                assert [w.quality.pending for w in one.windows] == [w.quality.pending for w in other.windows]
                assert [w.mature for w in one.windows] == [True, True, False]
                assert [w.estimate.decided for w in one.windows] == [
                    w.estimate.decided for w in other.windows
                ]
                assert [w.quality.roc_auc for w in one.windows] == [w.quality.roc_auc for w in other.windows]
            of_all = shaped(plain_dated(found), None).course
            assert len(of_all) > 5
            for one in got.groups:
                assert [m.end for m in one.course] == [m.end for m in of_all]
            for at, moment in enumerate(of_all):
                assert sum(one.course[at].labelled for one in got.groups) == moment.labelled
        got = shaped(plain_dated(found), "day")
        assert len(got.days) == len(days.days) > 20
        for day, window in zip(got.days, days.days, strict=True):
            assert day.start.timestamp() * 1e6 == window.start_us
            assert (day.quality.labelled, day.quality.pending) == (
                window.quality.labelled,
                window.quality.pending,
            )
            assert day.mature == window.mature
        assert got.total.roc_auc == board.total().summary().roc_auc
        assert [one.end.timestamp() * 1e6 for one in got.windows] == [w.end_us for w in board.windows()]


def plain_dated(found):
    from penstock.serving.job_process import dated

    return json.loads(json.dumps(plain(dated(found))))


def test_curves_and_scores(decided):
    with Runtime.open(decided, clock=watched.CLOCK) as runtime:
        found = plain_dated(metrics_report(runtime.store, runtime.plan, monitor_of(runtime.project)))
    whole, *groups = curves_of(found)
    assert [(one.dimension, one.value) for one in groups] == [
        ("version", "amount:1"),
        ("version", "amount:2"),
        ("arm", "champion"),
    ]
    for one in (whole, *groups):
        assert sum(one.scores.decided) == one.quality.labelled + one.quality.pending
        assert sum(one.scores.positives) == one.quality.positives
        assert sum(one.scores.negatives) == one.quality.labelled - one.quality.positives
        assert 2 < len(one.curves.recall) <= CURVE_POINTS
        assert one.curves.recall[-1] == one.curves.false_positive_rate[-1] == 1.0
        area = np.trapezoid([0, *one.curves.recall], [0, *one.curves.false_positive_rate])
        assert area == pytest.approx(one.quality.roc_auc, abs=0.01)


def test_distributions_of_the_newest_decisions(decided):
    with Runtime.open(decided, clock=watched.CLOCK) as runtime:
        monitor = monitor_of(runtime.project)
        every = distributions(runtime.store, runtime.plan, monitor)
        newest = distributions(runtime.store, runtime.plan, monitor, rows=100)
    assert (every["rows"], newest["rows"]) == (600, 100)
    amount = next(one for one in newest["features"] if one["name"] == "payment.amount")
    wanted = [row["amount"] for row in watched.payments(600)[-100:]]
    assert amount["mean"] == pytest.approx(np.mean(wanted))
    assert sum(amount["counts"]) + amount["below"] + amount["above"] == 100
    large = next(one for one in newest["features"] if one["name"] == "payment.large")
    assert (large["values"], sum(large["counts"])) == ([0.0, 1.0], 100)
    assert DistributionsShape(**plain_dated(newest)).features[0].edges is not None


def test_a_column_without_values():
    found = described("nothing", np.full(5, np.nan))
    assert (found["rows"], found["missing"], found["mean"], found["counts"]) == (0, 1.0, None, [])
    assert described("none", np.zeros(0))["missing"] == 0
    same = described("same", np.full(3, 7.0))
    assert sum(same["counts"]) + same["below"] + same["above"] == 3


SHAPES = {
    "metrics": lambda found: MetricsShape(**vars(shaped(found, "version"))),
    "drift": lambda found: DriftShape(**found),
    "distributions": lambda found: DistributionsShape(**found),
    "experiment": lambda found: ExperimentShape(**found),
    "backtest": lambda found: found["sides"][1],
    "dataset": lambda found: found["id"],
    "gate": lambda found: found["rules"],
    "retrain": lambda found: found["outcome"],
}
ASKED = {
    **{key: {"endpoint": "checkout"} for key in ("metrics", "drift", "distributions", "experiment")},
    "backtest": {
        "endpoint": "checkout",
        "models": ["fraud:2"],
        "thresholds": {"block": 0.5},
        "start": "2025-03-05",
    },
    "dataset": {"service": "fraud_features", "label": "chargebacks", "label_delay_s": 864000},
    "gate": {"model": "fraud", "version": "2"},
    "retrain": {"model": "fraud"},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return copied(template(), tmp_path_factory.mktemp("jobs"))


@pytest.mark.parametrize("kind", list(SHAPES))
def test_each_kind_does_its_work(shop, kind):
    said = io.BytesIO()
    params = KINDS[kind].params(**ASKED[kind]).model_dump(mode="json")
    asked = {"kind": kind, "params": params, "actor": "ann", "reason": "a test"}
    found = run(Work(shop, asked, Speaker(said), said))
    assert SHAPES[kind](json.loads(json.dumps(plain(found), allow_nan=False)))


def test_what_a_retraining_was_for_is_in_the_audit_log(shop):
    with asking(shop) as (_, client):
        rows = ok(client.get("/v1/audit", params={"action": "retraining"}))["items"]
        assert rows[-1]["reason"] == "by ann: a test"
        (attempt,) = ok(client.get("/v1/models/fraud/retraining/attempts"))["items"]
        assert (attempt["why"], attempt["verdict"] is not None) == ("by ann: a test", True)
        assert ok(client.get("/v1/models/fraud/retraining"))["newest"] == attempt


@pytest.fixture
def told(tmp_path):
    """The template's project whose jobs do as a test says: their figures are those of a real one."""
    root = copied(template(), tmp_path)
    with asking(root) as (served, client):
        served.platform.jobs.close()
        command = child_command(tmp_path)
        served.platform.jobs = Jobs(tmp_path, clock=served.runtime.clock, command=command, at_once=1)
        yield served.platform, client


def test_figures_are_made_once_and_kept(told):
    platform, client = told
    path = "/v1/endpoints/checkout/drift"
    answer = client.get(path)
    job = ok(answer, 202)
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    until(lambda: platform.jobs.get(job["id"]).ended)
    assert len(platform.jobs.all()) == 1
    assert client.get("/v1/endpoints/nothing/drift").status_code == 404
    assert client.get(path, params={"version": "9"}).status_code in {202, 404}


def test_a_failure_is_told_and_tried_again_when_something_happened(told, tmp_path, monkeypatch):
    platform, client = told
    failing = tmp_path / "failing.py"
    failing.write_text(
        'import json, sys\nsys.stdin.readline()\nprint(json.dumps({"error": {"kind": "NotFoundError", "detail": "no model"}}))\n'
    )
    platform.jobs._command[-1] = str(failing)
    path = "/v1/endpoints/checkout/drift"
    job = ok(client.get(path), 202)
    until(lambda: platform.jobs.get(job["id"]).ended)
    for _ in range(3):
        problem = ok(client.get(path, params={"max_age_s": 0}), 404)
        assert (problem["detail"], problem["job"]) == ("no model", job["id"])
    assert len(platform.jobs.all()) == 1, "nothing happened since: it would fail again"
    monkeypatch.setattr("penstock.serving.kept.stamp_of", lambda _: "another")
    ok(client.get(path, params={"max_age_s": 3600}), 404)
    assert len(platform.jobs.all()) == 1, "it failed lately"
    ok(client.get(path, params={"max_age_s": 0}), 202)


def test_a_whole_way_by_a_real_process(tmp_path):
    with asking(copied(template(), tmp_path)) as (served, client):
        path = "/v1/endpoints/checkout/metrics"
        job = ok(client.get(path), 202)
        until_s = time.monotonic() + 300
        while not served.platform.jobs.get(job["id"]).ended and time.monotonic() < until_s:
            time.sleep(0.05)
        detail = ok(client.get(f"/v1/jobs/{job['id']}"))
        assert detail["state"] == "succeeded", detail
        found = ok(client.get(path, params={"by": "version"}))
        assert (found["job"], found["current"], found["refreshing"]) == (job["id"], True, None)
        assert {one["value"] for one in found["result"]["groups"]} == {"(no model)", "fraud:1"}
        assert ok(client.get(path, params={"max_age_s": 0}))["refreshing"] is None, "nothing happened since"
        new = {
            "payment_id": "new",
            "card_id": "c",
            "shop_id": "s",
            "paid_at": "2025-04-05T00:00:00Z",
            "amount": 9.5,
        }
        assert ok(client.post("/v1/endpoints/checkout/score", json=new))["status"] == "scored"
        assert ok(client.get(path))["refreshing"] is None, "what is kept is young enough"
        stale = ok(client.get(path, params={"max_age_s": 0}))
        assert (stale["current"], stale["job"]) == (False, job["id"])
        assert stale["refreshing"] != job["id"]
        ok(client.get(path, params={"by": "segment:nothing"}), 404)
        curves = ok(client.get("/v1/endpoints/checkout/curves"))["result"]
        assert [one["dimension"] for one in curves] == ["all", "version", "version", "arm"]
