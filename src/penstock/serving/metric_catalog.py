"""Every metric of ``GET /metrics``: name, type, labels, meaning. What is not here cannot be exposed; docs/metrics.md is written from it.

python -m penstock.serving.metric_catalog > docs/metrics.md
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

BOUNDED = {
    "action": "a policy's actions",
    "alert": "defined alerts",
    "arm": "an endpoint's arms; empty where no model decided, or of all together",
    "definitions": "one: the fingerprint of the definitions in force",
    "detector": "`adwin`, `page-hinkley`",
    "endpoint": "defined endpoints",
    "flag": "`degraded`, `no_model`, `explored`, `over_budget`",
    "gpu": "the machine's GPUs",
    "how": "`late`, `too_late`",
    "method": "HTTP methods of defined routes",
    "mode": "`user`, `system`, `idle`, `iowait`, `other`",
    "model": "defined models",
    "outcome": "fixed words",
    "python": "one",
    "reason": "the reasons of dead letters",
    "role": "`serving`, `shadow`",
    "route": "templates of routes, such as `/v1/endpoints/{endpoint}/score`",
    "rule": "a policy's rules",
    "source": "defined sources",
    "stage": "fixed words",
    "state": "fixed words",
    "status": "`2xx` to `5xx`",
    "stream": "`score`, `error`, and features that a monitor names",
    "value": "`positive`, `negative`",
    "verdict": "`pass`, `fail`, `inconclusive`",
    "version": "model versions: the newest 20 of an arm, then `(earlier)`; of quality the 20 with the most decisions",
    "view": "defined feature views",
    "what": "endpoints, sources and parts of the platform",
}
"""Every label, and what bounds its values."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as Prometheus knows it.

    Attributes
    ----------
    group
        The part of the page that it stands in.
    """

    group: str
    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


def _group(group: str, *metrics: tuple[str, Kind, str, str]) -> list[Metric]:
    return [Metric(group, name, kind, tuple(labels.split()), text) for name, kind, labels, text in metrics]


_ALL = [
    *_group(
        "Scoring",
        ("penstock_http_requests_total", "counter", "route method status", "HTTP requests answered."),
        (
            "penstock_http_request_duration_seconds",
            "histogram",
            "route",
            "From the first byte of a request to the last of its answer.",
        ),
        (
            "penstock_decisions_total",
            "counter",
            "endpoint arm version action",
            "Events decided, by the action they got.",
        ),
        (
            "penstock_alerted_decisions_total",
            "counter",
            "endpoint arm version",
            "Events that got another action than the default.",
        ),
        (
            "penstock_score",
            "histogram",
            "endpoint arm version",
            "Scores of events; steps are for probabilities, the sum is right for any score.",
        ),
        (
            "penstock_flagged_decisions_total",
            "counter",
            "endpoint flag",
            "Decisions with something to say: a feature or the model failed, there was no model, it was explored, or over the day's budget of alerts.",
        ),
        ("penstock_rule_decisions_total", "counter", "endpoint rule", "Decisions that a rule made."),
        (
            "penstock_reasons_withheld_total",
            "counter",
            "endpoint",
            "Decisions that answers and alerts told of without reasons, since these did not add up to the score: alarm above 0.",
        ),
        (
            "penstock_arm_weight",
            "gauge",
            "endpoint arm version role",
            "The versions in force and the share of events that each gets; 0 in the shadow.",
        ),
        (
            "penstock_shadow_events_total",
            "counter",
            "endpoint arm outcome",
            "Events that shadow arms scored, failed on, or whose scores were lost.",
        ),
        (
            "penstock_shadow_left_out_events_total",
            "counter",
            "endpoint",
            "Events that shadow arms left out because too many waited.",
        ),
    ),
    *_group(
        "Stream",
        ("penstock_events_received_total", "counter", "source", "Events and labels that came in."),
        (
            "penstock_events_total",
            "counter",
            "source outcome",
            "The same by what became of them: scored, logged, label, duplicate or rejected; the sum is what was received.",
        ),
        (
            "penstock_events_rejected_total",
            "counter",
            "source reason",
            "Rejected ones, which are dead letters, by reason.",
        ),
        (
            "penstock_events_late_total",
            "counter",
            "source how",
            "Scored events older than their key's newest: put in place, or too late for that.",
        ),
        (
            "penstock_newest_event_timestamp_seconds",
            "gauge",
            "source",
            "The latest event time accepted since the start.",
        ),
        ("penstock_event_lag_seconds", "gauge", "source", "How far that is behind the clock."),
        (
            "penstock_input_lag_bytes",
            "gauge",
            "source",
            "What of a file or folder is not committed yet; of Parquet files the share of rows.",
        ),
        (
            "penstock_input_lag_messages",
            "gauge",
            "source",
            "Messages of the source's Kafka topics that were not taken yet.",
        ),
        ("penstock_micro_batch_events", "histogram", "", "Events in a micro-batch."),
        (
            "penstock_micro_batch_duration_seconds",
            "histogram",
            "",
            "From handing a micro-batch in until it was durable.",
        ),
        ("penstock_commit_duration_seconds", "histogram", "", "The transaction of a micro-batch alone."),
        ("penstock_queue_requests", "gauge", "", "Requests that wait for the engine."),
        ("penstock_queue_events", "gauge", "", "Events in them."),
        ("penstock_queue_bytes", "gauge", "", "Bytes in them."),
        (
            "penstock_queue_refused_requests_total",
            "counter",
            "",
            "Requests refused because the queue was full: overload.",
        ),
        ("penstock_log_rows", "gauge", "", "The length of the log: events and labels ever accepted."),
        ("penstock_dead_letters", "gauge", "", "Dead letters kept."),
        ("penstock_problem", "gauge", "what", "1 while something does not work though the engine runs."),
    ),
    *_group(
        "Labels",
        (
            "penstock_labels_total",
            "counter",
            "outcome",
            "Labels: joined (an event's first), corrected, repeated, early, and so on.",
        ),
        (
            "penstock_label_values_total",
            "counter",
            "value",
            "Joined and corrected labels: above 0, and others. Over decisions this is the fraud rate as known so far.",
        ),
        ("penstock_labels_pending", "gauge", "", "Labels that wait for their event."),
    ),
    *_group(
        "Features",
        (
            "penstock_view_newest_timestamp_seconds",
            "gauge",
            "view",
            "The latest time of a row that the view's source brought since the start.",
        ),
        ("penstock_view_freshness_seconds", "gauge", "view", "How far that is behind the clock."),
        ("penstock_keys_evicted_total", "counter", "", "Keys that left a view because it was full."),
        (
            "penstock_audit_vectors_total",
            "counter",
            "",
            "Logged vectors that the running audit recomputed, since the store was created.",
        ),
        ("penstock_audit_values_total", "counter", "", "Values in them."),
        ("penstock_audit_mismatches_total", "counter", "", "Values that differed: alarm above 0."),
        ("penstock_audit_missing_total", "counter", "", "Decisions that were missing: alarm above 0."),
        ("penstock_audit_lag_rows", "gauge", "", "Rows of the log that the audit has still to look at."),
    ),
    *_group(
        "Quality",
        (
            "penstock_quality_decisions",
            "gauge",
            "endpoint arm version state",
            "Decisions in the newest mature window: labelled, positive, pending (without a label); and young, which are after it.",
        ),
        ("penstock_quality_average_precision", "gauge", "endpoint arm version", "Of those with a label."),
        ("penstock_quality_roc_auc", "gauge", "endpoint arm version", "Of those with a label."),
        ("penstock_quality_log_loss", "gauge", "endpoint arm version", "Mean, of those with a label."),
        (
            "penstock_quality_calibration_error",
            "gauge",
            "endpoint arm version",
            "How far scores are from the share of positives, on average (ECE).",
        ),
        (
            "penstock_quality_recall",
            "gauge",
            "endpoint arm version action",
            "Share of the positives that reach the action's threshold.",
        ),
        (
            "penstock_quality_precision",
            "gauge",
            "endpoint arm version action",
            "Share of positives among those that reach it.",
        ),
        (
            "penstock_quality_false_positive_rate",
            "gauge",
            "endpoint arm version action",
            "Share of the negatives that reach it.",
        ),
        ("penstock_quality_mae", "gauge", "endpoint arm version", "Of a regression: mean absolute error."),
        ("penstock_quality_rmse", "gauge", "endpoint arm version", "Root of its mean squared error."),
        ("penstock_quality_bias", "gauge", "endpoint arm version", "Mean of prediction minus truth."),
        (
            "penstock_quality_window_end_timestamp_seconds",
            "gauge",
            "endpoint",
            "The event time at which that window ends: so long before the newest event as labels take.",
        ),
        ("penstock_quality_made_timestamp_seconds", "gauge", "endpoint", "When these were made."),
    ),
    *_group(
        "Training",
        (
            "penstock_retraining_attempts_total",
            "counter",
            "model outcome",
            "What came of attempts, from the audit log; one in the shadow counts again when it is judged a second time.",
        ),
        (
            "penstock_retraining_seconds_total",
            "counter",
            "model stage",
            "Time spent: gather, record, train, gate.",
        ),
        (
            "penstock_retraining_last_duration_seconds",
            "gauge",
            "model stage",
            "The same of the newest attempt that ended.",
        ),
        (
            "penstock_drifted_columns",
            "gauge",
            "endpoint",
            "Columns that differ from the training data, at the newest look of the watch over drift.",
        ),
        (
            "penstock_change_points_total",
            "counter",
            "endpoint stream detector",
            "Alarms of detectors of change on score, error and the features that the monitor names.",
        ),
        (
            "penstock_drift_lag_rows",
            "gauge",
            "endpoint",
            "Rows of the log that the watch over drift has not seen yet.",
        ),
        (
            "penstock_retraining_under_way",
            "gauge",
            "model",
            "1 while the newest attempt has no outcome yet, or was killed.",
        ),
        (
            "penstock_retraining_last_timestamp_seconds",
            "gauge",
            "model",
            "When the newest attempt that ended began.",
        ),
        (
            "penstock_gate_verdicts_total",
            "counter",
            "model verdict",
            "What gates said of retrained versions.",
        ),
        ("penstock_model_versions", "gauge", "model stage", "Registered versions."),
    ),
    *_group(
        "Followers of the log",
        (
            "penstock_alert_messages",
            "gauge",
            "alert state",
            "Messages in the outbox: waiting, sent, silenced, dead (given up).",
        ),
        (
            "penstock_alert_deliveries_total",
            "counter",
            "alert outcome",
            "Attempts to send: sent, failed (tried again), dead (given up).",
        ),
        ("penstock_offline_exported_rows_total", "counter", "", "Rows appended to the offline tables."),
        ("penstock_offline_export_failures_total", "counter", "", "Exports that failed and are tried again."),
        (
            "penstock_offline_export_lag_rows",
            "gauge",
            "",
            "Rows of the log that the offline tables do not hold yet.",
        ),
    ),
    *_group(
        "System",
        ("penstock_build_info", "gauge", "version python definitions", "1; what runs."),
        ("penstock_start_time_seconds", "gauge", "", "When counting began: counters were 0 then."),
        ("penstock_cpu_seconds_total", "counter", "mode", "Time of the machine's processors."),
        ("penstock_cpus", "gauge", "", "Processors."),
        ("penstock_memory_bytes", "gauge", "state", "The machine's memory: total, available."),
        ("penstock_disk_bytes", "gauge", "state", "The disk that holds the project: total, free."),
        ("penstock_disk_read_bytes_total", "counter", "", "Read from all disks."),
        ("penstock_disk_written_bytes_total", "counter", "", "Written to all disks."),
        ("penstock_process_read_bytes_total", "counter", "", "Read from disks by this process."),
        ("penstock_process_written_bytes_total", "counter", "", "Written to disks by this process."),
        ("penstock_process_threads", "gauge", "", "Threads of this process."),
        ("penstock_store_bytes", "gauge", "", "The project's database with its write-ahead log."),
        ("penstock_gpu_busy_ratio", "gauge", "gpu", "Share of time in which a GPU worked."),
        ("penstock_gpu_memory_bytes", "gauge", "gpu state", "A GPU's memory: total, used."),
    ),
]

METRICS = {metric.name: metric for metric in _ALL}
"""Every metric by name, in the order of the page."""

_HEAD = """# Metrics

`GET /metrics` answers in Prometheus' text format, or as OpenMetrics where the `Accept` header asks for it. It needs the scope `read`.

Counters count since the process started, as Prometheus expects, and are exact: the increase of `penstock_events_total` is the increase
of the store's own totals (`penstock status`). What is kept in the store or the audit log (`penstock_audit_…`, `penstock_retraining_…`,
`penstock_gate_…`) goes on over restarts. A scrape reads numbers that are there already; what takes a query is read every 10 seconds in a thread of
its own, by a reader of its own. Quality is made in a process of its own, by a pass over the shortest window of the endpoint's `Monitor`, while somebody scrapes: at most once a
minute and for a twentieth of the time of one processor, so the first scrape starts it and later ones have it. `arm` and `version` are both empty for all decisions together. A metric without a value (no alerts are defined, no file is read) is left out.

Beside these there are the `process_…` metrics that Prometheus' client gives for any process: processor time, resident memory, open files.

No key, card, event id or text of an event is ever in a label. Values of labels come from definitions, or from the lists below.
"""


def reference() -> str:
    """The page docs/metrics.md."""
    lines = [_HEAD]
    for group in dict.fromkeys(metric.group for metric in _ALL):
        lines += [f"## {group}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        for metric in _ALL:
            if metric.group == group:
                labels = ", ".join(f"`{label}`" for label in metric.labels)
                lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
        lines.append("")
    lines += ["## Labels", "", "| label | values |", "|---|---|"]
    lines += [f"| `{label}` | {text} |" for label, text in BOUNDED.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
