"""Metrics are exact, bounded, documented, and cheap to scrape."""

import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from penstock.app.alerting import Alerting
from penstock.app.drift_watch import Looked, WatchState, state_path
from penstock.app.exporting_beside import Exported, _save
from penstock.app.inputs import FileInput
from penstock.app.measuring import monitor_of
from penstock.app.runtime import audit_log_of
from penstock.definitions.batch_configs import FileConfig
from penstock.monitoring.batch_facts import SCORE_STEPS, Decided
from penstock.monitoring.drift_looks import Look
from penstock.monitoring.stream_counts import EARLIER, MOST_VERSIONS, StreamCounts
from penstock.serving import metric_readings
from penstock.serving.metric_catalog import BOUNDED, METRICS, reference
from penstock.serving.metric_readings import MetricReader, retraining_of
from penstock.serving.prometheus import Exposition, Waiting
from penstock.serving.request_counts import MOST_ROUTES, RequestCounts
from tests.services import needs
from tests.unit.app.observed import feed, observed, send, serve
from tests.unit.app.shop import CLOCK, payments, write_project

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path):
    return write_project(tmp_path)


def values(body):
    """Samples by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def of(found, name, **labels):
    return found[name, *sorted(labels.items())]


def everything(runtime, observing, folder):
    """An exposition in which every metric has a value."""
    requests = RequestCounts()
    requests.add("/v1/endpoints/{endpoint}/score", "POST", 200, 0.0015)
    requests.add(None, "GET", 404, 0.2)
    alerts = Alerting(runtime)
    runtime.settings.offline.export = True
    _save(folder, Exported(rows=5, failures=1, position=7))
    alerts.outcomes = lambda: Counter({("big", "sent"): 2})
    audit = audit_log_of(folder, clock=CLOCK)
    row = audit.append("retraining", "model", {"event": "begin", "position": 1}, actor="t", reason="t")
    end = {
        "event": "end",
        "attempt": row.sequence,
        "outcome": "kept",
        "verdict": "fail",
        "seconds": {"train": 2.5},
    }
    audit.append("retraining", "model", end, actor="t", reason="t")
    (folder / "more.ndjson").write_text("{}\n" * 100)
    config = FileConfig("more.ndjson", "ndjson")
    reader = MetricReader(runtime, [FileInput("payments", "payments:more.ndjson", config, folder)])
    watched = {"endpoint": monitor_of(runtime.project, "endpoint")}
    with pytest.MonkeyPatch.context() as patched:  # an endpoint whose drift is watched
        patched.setattr(metric_readings, "watched_monitors", lambda _: watched.values())
        keep_drift(folder, position=runtime.store.next_position - 5)
        reader.look()
    return Exposition(
        runtime,
        observing.counts,
        reader,
        requests=requests,
        waiting=lambda: Waiting(3, 30, 3_000, 1),
        alerts=alerts,
    )


def keep_drift(folder, *, position):
    look = Looked("model:1", 3, Look(0, 0, 500, 0.01, ("a", "b"), is_last=False))
    state = WatchState("log", "model:1", "", 0, position, looked=[look], raised={"score adwin": 3})
    path = state_path(folder, "endpoint")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(state))


def test_what_is_shown_is_what_was_counted(folder):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 60)
        runtime.problems["offline"] = "no"
        found = values(everything(runtime, observing, folder).render()[0])
        store, log_rows = runtime.store.counters(), runtime.store.next_position
    assert of(found, "penstock_events_received_total", source="payments") == store["received"]
    outcomes = ("scored", "duplicate", "rejected")
    shown = [of(found, "penstock_events_total", source="payments", outcome=one) for one in outcomes]
    assert shown == [store[one] for one in outcomes]
    assert sum(shown) == store["received"]
    arm = {"endpoint": "endpoint", "arm": "champion", "version": "model:1"}
    for action in ("approve", "block"):
        assert of(found, "penstock_decisions_total", action=action, **arm) == store[f"action.{action}"]
    assert of(found, "penstock_alerted_decisions_total", **arm) == store["action.block"]
    assert of(found, "penstock_score_count", **arm) == 60
    assert of(found, "penstock_score_bucket", le="+Inf", **arm) == 60
    assert of(found, "penstock_score_bucket", le="0.8", **arm) == store["action.approve"]
    expected = 0.9 * store["action.block"] + 0.05 * store["action.approve"]
    assert of(found, "penstock_score_sum", **arm) == pytest.approx(expected)
    assert of(found, "penstock_labels_total", outcome="joined") == store["labels_joined"]
    assert of(found, "penstock_labels_pending") == store["labels_pending"]
    assert of(found, "penstock_log_rows") == log_rows
    assert of(found, "penstock_micro_batch_events_count") == 12
    assert of(found, "penstock_commit_duration_seconds_count") == 12
    assert of(found, "penstock_arm_weight", role="serving", **arm) == 1
    assert of(found, "penstock_input_lag_bytes", source="payments") == 300
    assert of(found, "penstock_http_requests_total", route="(other)", method="(other)", status="4xx") == 1
    assert of(found, "penstock_queue_refused_requests_total") == 1
    assert of(found, "penstock_problem", what="offline") == 1
    assert of(found, "penstock_retraining_seconds_total", model="model", stage="train") == 2.5
    assert of(found, "penstock_gate_verdicts_total", model="model", verdict="fail") == 1
    assert of(found, "penstock_offline_export_lag_rows") == log_rows - 7
    assert of(found, "penstock_drifted_columns", endpoint="endpoint") == 2
    assert of(found, "penstock_drift_lag_rows", endpoint="endpoint") == 5
    alarms = {"endpoint": "endpoint", "stream": "score", "detector": "adwin"}
    assert of(found, "penstock_change_points_total", **alarms) == 3
    assert of(found, "penstock_view_freshness_seconds", view="spending") > 0


def test_every_metric_is_in_the_catalog_with_its_labels(folder):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 60)
        runtime.problems["offline"] = "no"
        body, _ = everything(runtime, observing, folder).render()
    own = [f for f in text_string_to_metric_families(body.decode()) if f.name.startswith("penstock_")]
    shown = {f.name + ("_total" if f.type == "counter" else ""): f for f in own}
    optional = {
        *("penstock_shadow_events_total", "penstock_shadow_left_out_events_total"),
        *("penstock_rule_decisions_total", "penstock_flagged_decisions_total", "penstock_model_versions"),
        *("penstock_alert_messages", "penstock_gpu_busy_ratio", "penstock_gpu_memory_bytes"),
        *(name for name in METRICS if name.startswith("penstock_audit_")),
        "penstock_input_lag_messages",  # nothing is read from Kafka here
        *(
            name for name in METRICS if name.startswith("penstock_quality_")
        ),  # tests/unit/app/test_quality_figures.py
    }
    assert set(METRICS) - set(shown) <= optional
    for name, family in shown.items():
        metric = METRICS[name]
        assert family.type == metric.kind
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), name


def test_no_label_holds_what_comes_with_an_event(folder):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 50)
        numbers = {"id": "4111111111111111", "card_id": 4111111111111111, "shop": "5500005555555559"}
        send(runtime, observing, "payments", [payments(1, 9, 900)[0] | numbers])
        few = everything(runtime, observing, folder).render()[0]
        feed(runtime, observing, 400, first=50)
        serve(runtime, "model:1+12800")
        send(runtime, observing, "payments", payments(1, 9, 901))
        many = everything(runtime, observing, folder).render()[0]
    assert set(values(few)) == set(values(many))
    assert b"411111" not in many
    assert b"5500005" not in many
    assert b"12800" not in many
    assert not re.search(rb'"p\d+"', many)


def test_series_are_bounded_by_the_definitions():
    counts = StreamCounts()
    import numpy as np

    from penstock.monitoring.batch_facts import BatchFacts

    scores = np.zeros(SCORE_STEPS, np.int64)
    for number in range(500):
        decided = Decided(
            "e", "champion", f"model:{number}", ("approve", "block"), np.array([3, 1]), scores, 0.5
        )
        counts.add(BatchFacts([], [decided], {}, {}, 0, 0, {}))
    totals = counts.totals()
    assert len(totals.arms) == MOST_VERSIONS + 1
    assert ("e", "champion", "model:499") in totals.arms
    assert ("e", "champion", EARLIER) in totals.arms
    assert sum(arm.taken["block"] for arm in totals.arms.values()) == 500
    assert sum(arm.score_sum for arm in totals.arms.values()) == pytest.approx(250)


def test_a_version_that_comes_back_goes_on_counting():
    import numpy as np

    from penstock.monitoring.batch_facts import BatchFacts

    counts, scores = StreamCounts(), np.zeros(SCORE_STEPS, np.int64)
    for version in ("model:1", "model:2", "model:1"):
        decided = Decided("e", "a", version, ("approve",), np.array([1]), scores, 0.0)
        counts.add(BatchFacts([], [decided], {}, {}, 0, 0, {}))
    assert counts.totals().arms["e", "a", "model:1"].taken["approve"] == 2


def test_made_up_paths_are_one_series():
    requests = RequestCounts()
    for number in range(3_000):
        requests.add(None, f"M{number}", 404, 0.001)
        requests.add(f"/r{number}", "GET", 200, 0.001)
    counts, seconds = requests.totals()
    assert len(seconds) <= MOST_ROUTES + 1
    assert len(counts) <= 2 * (MOST_ROUTES + 1)
    assert counts.total() == 6_000


def test_openmetrics_is_given_to_those_who_ask(folder):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 20)
        exposition = everything(runtime, observing, folder)
        body, kind = exposition.render("application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text")
        assert list(openmetrics.text_string_to_metric_families(body.decode()))
        plain, kind = exposition.render("text/html")
        assert kind.startswith("text/plain")
        assert not plain.endswith(b"# EOF\n")


def test_a_scrape_is_cheap(folder):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 60)
        exposition = everything(runtime, observing, folder)
        spent = []
        for _ in range(20):
            began = time.process_time()
            exposition.render()
            spent.append(time.process_time() - began)
    assert min(spent) < 0.010, f"{min(spent) * 1000:.1f} ms"


def test_a_scrape_waits_for_no_store(folder, monkeypatch):
    with observed(folder) as (runtime, observing):
        exposition = everything(runtime, observing, folder)

        def touched(*_, **__):
            raise AssertionError("a scrape asked a store")

        monkeypatch.setattr("penstock.stores.reader.ProjectReader._fetch", touched)
        monkeypatch.setattr("sqlite3.connect", touched)
        assert exposition.render()[0]


def test_observing_a_micro_batch_costs_little(folder):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 10)
        processed = runtime.process([("payments", runtime.engine.decode("payments", payments(1, 5, 500)))])
        processed.wait()
        spent = []
        for _ in range(7):
            began = time.process_time()
            for _ in range(200):
                observing.note(processed, 0.0)
            spent.append((time.process_time() - began) / 200)
    assert min(spent) < 300e-6, f"{min(spent) * 1e6:.0f} µs"


def test_retraining_totals_only_grow(folder):
    audit = audit_log_of(folder, clock=CLOCK)
    first = audit.append("retraining", "m", {"event": "begin"}, actor="t", reason="t")
    assert retraining_of(audit.rows()).under_way == {"m": True}
    for outcome in ("shadowing", "promoted"):
        end = {"event": "end", "attempt": first.sequence, "outcome": outcome, "verdict": "pass"}
        audit.append("retraining", "m", end, actor="t", reason="t")
    found = retraining_of(audit.rows())
    assert found.outcomes == {("m", "shadowing"): 1, ("m", "promoted"): 1}
    assert found.verdicts == {("m", "pass"): 2}
    assert found.under_way == {"m": False}


def test_the_reader_reads_in_a_thread_of_its_own(folder):
    with observed(folder) as (runtime, observing):
        feed(runtime, observing, 20)
        with MetricReader(runtime, every_s=0.01) as reader:
            until = time.monotonic() + 10
            while reader.newest.log_rows != runtime.store.next_position and time.monotonic() < until:
                time.sleep(0.01)
        assert reader.newest.log_rows == runtime.store.next_position > 0


def test_the_page_is_what_the_catalog_says():
    page = (ROOT / "docs/metrics.md").read_text("utf-8")
    assert page == reference(), "run: python -m penstock.serving.metric_catalog > docs/metrics.md"


def test_names_follow_the_conventions():
    for name, metric in METRICS.items():
        assert re.fullmatch(r"penstock_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert not re.search(r"_(ms|milliseconds|percent|mb|kilobytes|minutes)(_|$)", name)
        assert metric.meaning.endswith(".")
        assert set(metric.labels) <= set(BOUNDED), name
    assert {label for metric in METRICS.values() for label in metric.labels} == set(BOUNDED)


@needs("promtool")
def test_promtool_finds_nothing_wrong(folder):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 20)
        body, _ = everything(runtime, observing, folder).render()
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
