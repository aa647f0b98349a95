"""The four dashboards of Grafana, and the files that Grafana reads.

python -m deploy.dashboards            write deploy/grafana/dashboards
python -m deploy.dashboards --check    exit with 1 where a file differs from what would be written

A test runs every query against a real Prometheus that scrapes a project.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableOption, VariableRefresh
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Chart: TypeAlias = timeseries.Panel | stat.Panel | heatmap.Panel
FOLDER = Path(__file__).parent / "grafana" / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, SMALL, HEIGHT = 8, 6, 8  # of a grid of 24 columns


@dataclass(frozen=True)
class Panel:
    """What one panel shows: queries with the legends of their series.

    Attributes
    ----------
    unit
        Grafana's name of the unit.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: Literal["lines", "number", "heat"] = "lines"
    about: str = ""


@dataclass(frozen=True)
class Page:
    """One dashboard: its rows, and what a reader may choose."""

    title: str
    choices: dict[str, str]
    rows: dict[str, list[Panel]]


def quantiles(metric: str, by: str = "job", where: str = "") -> dict[str, str]:
    """The median and the 99th percentile of a histogram."""
    rates = f"sum by ({by}, le) (rate({metric}_bucket{{{where or J}}}[$__rate_interval]))"
    return {
        f"histogram_quantile({q}, {rates})": f"p{q * 100:g} {{{{{by.rpartition(' ')[2]}}}}}"
        for q in (0.5, 0.99)
    }


def rate(metric: str, by: str, where: str = "") -> str:
    """Counted a second, summed over all but `by`."""
    return f"sum by ({by}) (rate({metric}{{{where or J}}}[$__rate_interval]))"


J = 'job=~"$job"'
E = f'{J}, endpoint=~"$endpoint"'
S = f'{J}, source=~"$source"'
M = f'{J}, model=~"$model"'
JOB = {"job": "penstock_build_info"}

SCORING = Page(
    "Penstock: scoring",
    JOB | {"endpoint": "penstock_decisions_total"},
    {
        "Now": [
            Panel(
                "Decisions a second", {rate("penstock_decisions_total", "job", E): "{{job}}"}, "ops", "number"
            ),
            Panel(
                "p99 of requests",
                {
                    "histogram_quantile(0.99, sum by (le) (rate(penstock_http_request_duration_seconds_bucket"
                    f"{{{J}}}[$__rate_interval])))": "p99"
                },
                "s",
                "number",
            ),
            Panel(
                "Failed requests",
                {f"max(instance:penstock_http_errors:ratio_rate5m{{{J}}})": "5xx"},
                "percentunit",
                "number",
                "Over five minutes, of the worst instance.",
            ),
            Panel(
                "Refused a second",
                {rate("penstock_queue_refused_requests_total", "job"): "{{job}}"},
                "reqps",
                "number",
                "The queue was full: callers were told to try again.",
            ),
        ],
        "Requests": [
            Panel("Requests by route", {rate("penstock_http_requests_total", "route"): "{{route}}"}, "reqps"),
            Panel(
                "Answers by status", {rate("penstock_http_requests_total", "status"): "{{status}}"}, "reqps"
            ),
            Panel(
                "Duration by route",
                quantiles("penstock_http_request_duration_seconds", "route"),
                "s",
                about="From the first byte of a request to the last of its answer.",
            ),
        ],
        "Decisions": [
            Panel(
                "Decisions by action",
                {rate("penstock_decisions_total", "endpoint, action", E): "{{endpoint}} {{action}}"},
                "ops",
            ),
            Panel(
                "Share that is acted on",
                {
                    f"version:penstock_alerted_decisions:ratio_rate1h{{{E}}}": "{{endpoint}} {{arm}} {{version}}"
                },
                "percentunit",
                about="Decisions with another action than the default, over an hour.",
            ),
            Panel(
                "Made by a rule",
                {rate("penstock_rule_decisions_total", "endpoint, rule", E): "{{endpoint}} {{rule}}"},
                "ops",
            ),
            Panel(
                "Flagged decisions",
                {rate("penstock_flagged_decisions_total", "endpoint, flag", E): "{{endpoint}} {{flag}}"},
                "ops",
                about="Degraded: a feature or the model failed. No model: there was none.",
            ),
            Panel(
                "Arms and their weights",
                {f"penstock_arm_weight{{{E}}}": "{{endpoint}} {{arm}} {{version}} {{role}}"},
                "percentunit",
            ),
            Panel(
                "Events of shadow arms",
                {
                    rate(
                        "penstock_shadow_events_total", "endpoint, arm, outcome", E
                    ): "{{endpoint}} {{arm}} {{outcome}}",
                    f"{rate('penstock_shadow_left_out_events_total', 'endpoint', E)}"
                    f" or 0 * {rate('penstock_shadow_events_total', 'endpoint', E)}": "{{endpoint}} left out",
                },
                "ops",
            ),
        ],
        "Where the time goes": [
            Panel(
                "Waiting for the engine",
                {f"penstock_queue_requests{{{J}}}": "requests", f"penstock_queue_events{{{J}}}": "events"},
            ),
            Panel("Micro-batch", quantiles("penstock_micro_batch_duration_seconds"), "s"),
            Panel("Commit", quantiles("penstock_commit_duration_seconds"), "s"),
        ],
    },
)

STREAM = Page(
    "Penstock: stream",
    JOB | {"source": "penstock_events_received_total"},
    {
        "Now": [
            Panel(
                "Events a second",
                {rate("penstock_events_received_total", "job", S): "{{job}}"},
                "ops",
                "number",
            ),
            Panel("Behind the clock", {f"max(penstock_event_lag_seconds{{{S}}})": "lag"}, "s", "number"),
            Panel("Length of the log", {f"penstock_log_rows{{{J}}}": "rows"}, "short", "number"),
            Panel("Dead letters kept", {f"penstock_dead_letters{{{J}}}": "dead letters"}, "short", "number"),
        ],
        "Events": [
            Panel("Received", {rate("penstock_events_received_total", "source", S): "{{source}}"}, "ops"),
            Panel(
                "What became of them",
                {rate("penstock_events_total", "source, outcome", S): "{{source}} {{outcome}}"},
                "ops",
                about="Scored, logged, label, duplicate and rejected sum to what was received.",
            ),
            Panel(
                "Rejected, by reason",
                {rate("penstock_events_rejected_total", "source, reason", S): "{{source}} {{reason}}"},
                "ops",
            ),
            Panel(
                "Late events",
                {rate("penstock_events_late_total", "source, how", S): "{{source}} {{how}}"},
                "ops",
                about="Late ones are put in place; too late ones are scored and not applied.",
            ),
            Panel("Lag in event time", {f"penstock_event_lag_seconds{{{S}}}": "{{source}}"}, "s"),
            Panel(
                "Bytes of files still to read", {f"penstock_input_lag_bytes{{{S}}}": "{{source}}"}, "bytes"
            ),
        ],
        "Micro-batches": [
            Panel("Duration", quantiles("penstock_micro_batch_duration_seconds"), "s"),
            Panel("Commit", quantiles("penstock_commit_duration_seconds"), "s"),
            Panel("Events in one", quantiles("penstock_micro_batch_events")),
        ],
        "Features and labels": [
            Panel("Freshness of views", {f"penstock_view_freshness_seconds{{{J}}}": "{{view}}"}, "s"),
            Panel(
                "Keys evicted",
                {rate("penstock_keys_evicted_total", "job"): "{{job}}"},
                "ops",
                about="Keys that left a view because it was full.",
            ),
            Panel("Labels", {rate("penstock_labels_total", "outcome"): "{{outcome}}"}, "ops"),
            Panel("Labels that wait for their event", {f"penstock_labels_pending{{{J}}}": "{{job}}"}),
        ],
    },
)

MODELS = Page(
    "Penstock: models and drift",
    JOB | {"endpoint": "penstock_decisions_total", "model": "penstock_model_versions"},
    {
        "Now": [
            Panel(
                "Labelled positive",
                {
                    'sum(increase(penstock_label_values_total{value="positive"}[1d]))'
                    " / sum(increase(penstock_label_values_total[1d]))": "share"
                },
                "percentunit",
                "number",
                "Of the labels that came over the last day.",
            ),
            Panel(
                "Scores moved",
                {f"max(version:penstock_score_distance:1h_to_1d{{{E}}})": "distance"},
                "percentunit",
                "number",
                "The largest distance between the distribution functions of the last hour and the last day.",
            ),
            Panel(
                "Retrainings under way",
                {f"sum(penstock_retraining_under_way{{{M}}})": "under way"},
                "short",
                "number",
            ),
            Panel(
                "Values that cannot be recomputed",
                {f"sum(penstock_audit_mismatches_total{{{J}}})": "mismatches"},
                "short",
                "number",
                "0, or something is wrong.",
            ),
        ],
        "Scores": [
            Panel(
                "Distribution of scores",
                {f"sum by (le) (increase(penstock_score_bucket{{{E}}}[$__rate_interval]))": "{{le}}"},
                "short",
                "heat",
            ),
            Panel(
                "Mean score",
                {
                    f"{rate('penstock_score_sum', 'endpoint, version', E)}"
                    f" / {rate('penstock_score_count', 'endpoint, version', E)}": "{{endpoint}} {{version}}"
                },
            ),
            Panel(
                "Distance to the last day, beyond chance",
                {
                    f"version:penstock_score_distance_beyond_chance:1h_to_1d{{{E}}}": "{{endpoint}} {{arm}} {{version}}"
                },
                about="Kolmogorov-Smirnov, less what chance alone brings once in a thousand looks: above 0 it is none.",
            ),
            Panel(
                "Share that is acted on",
                {
                    f"version:penstock_alerted_decisions:ratio_rate1h{{{E}}}": "{{endpoint}} {{arm}} {{version}}"
                },
                "percentunit",
            ),
            Panel(
                "Decisions by version",
                {rate("penstock_decisions_total", "endpoint, version", E): "{{endpoint}} {{version}}"},
                "ops",
            ),
            Panel("Labels by value", {rate("penstock_label_values_total", "value"): "{{value}}"}, "ops"),
        ],
        "Quality, by labels": [
            Panel(
                "Average precision",
                {
                    f"penstock_quality_average_precision{{{E}}}": "{{endpoint}} {{arm}} {{version}}",
                },
                about="Of the newest window whose labels had their time; without arm and version all decisions together.",
            ),
            Panel(
                "Recall at the threshold",
                {f"penstock_quality_recall{{{E}}}": "{{endpoint}} {{arm}} {{version}} {{action}}"},
                "percentunit",
            ),
            Panel(
                "Waiting for labels",
                {
                    f'penstock_quality_decisions{{{E}, arm="", version="", state=~"pending|young"}}': "{{endpoint}} {{state}}"
                },
                about="Pending: in that window, and still without a label. Young: after it.",
            ),
        ],
        "Retraining": [
            Panel(
                "Attempts",
                {
                    f"sum by (model, outcome) (penstock_retraining_attempts_total{{{M}}})": "{{model}} {{outcome}}"
                },
            ),
            Panel(
                "Duration of the newest",
                {f"penstock_retraining_last_duration_seconds{{{M}}}": "{{model}} {{stage}}"},
                "s",
            ),
            Panel(
                "Age of the newest",
                {f"time() - penstock_retraining_last_timestamp_seconds{{{M}}}": "{{model}}"},
                "s",
            ),
            Panel(
                "Verdicts of gates",
                {f"sum by (model, verdict) (penstock_gate_verdicts_total{{{M}}})": "{{model}} {{verdict}}"},
            ),
            Panel("Registered versions", {f"penstock_model_versions{{{M}}}": "{{model}} {{stage}}"}),
        ],
        "The running audit": [
            Panel("Vectors recomputed", {rate("penstock_audit_vectors_total", "job"): "{{job}}"}, "ops"),
            Panel(
                "Wrong or missing",
                {
                    f"penstock_audit_mismatches_total{{{J}}}": "mismatches",
                    f"penstock_audit_missing_total{{{J}}}": "missing",
                },
            ),
            Panel("Rows still to look at", {f"penstock_audit_lag_rows{{{J}}}": "{{job}}"}),
        ],
    },
)

OPERATIONS = Page(
    "Penstock: operations",
    JOB,
    {
        "Now": [
            Panel("Targets that answer", {"sum(up)": "up"}, "short", "number"),
            Panel("Problems", {f"sum(penstock_problem{{{J}}}) or vector(0)": "problems"}, "short", "number"),
            Panel(
                "Disk free",
                {
                    f'min(penstock_disk_bytes{{{J}, state="free"}}'
                    f' / ignoring (state) penstock_disk_bytes{{{J}, state="total"}})': "free"
                },
                "percentunit",
                "number",
            ),
            Panel("Runs since", {f"min(time() - penstock_start_time_seconds{{{J}}})": "s"}, "s", "number"),
        ],
        "What does not work": [
            Panel("Targets", {"up": "{{job}} {{instance}}"}),
            Panel("Problems by name", {f"penstock_problem{{{J}}}": "{{what}}"}),
            Panel("Versions", {f"penstock_build_info{{{J}}}": "{{instance}} {{version}} {{definitions}}"}),
        ],
        "Machine": [
            Panel("Processor time", {rate("penstock_cpu_seconds_total", "instance, mode"): "{{mode}}"}),
            Panel("Memory", {f"penstock_memory_bytes{{{J}}}": "{{instance}} {{state}}"}, "bytes"),
            Panel("Disk", {f"penstock_disk_bytes{{{J}}}": "{{instance}} {{state}}"}, "bytes"),
            Panel(
                "Disk traffic",
                {
                    rate("penstock_disk_read_bytes_total", "instance"): "{{instance}} read",
                    rate("penstock_disk_written_bytes_total", "instance"): "{{instance}} written",
                },
                "Bps",
            ),
        ],
        "Process": [
            Panel(
                "Processors used",
                {rate("process_cpu_seconds_total", "job, instance"): "{{job}} {{instance}}"},
            ),
            Panel(
                "Resident memory", {f"process_resident_memory_bytes{{{J}}}": "{{job}} {{instance}}"}, "bytes"
            ),
            Panel("Open files", {f"process_open_fds{{{J}}}": "{{job}} {{instance}}"}),
            Panel("Threads", {f"penstock_process_threads{{{J}}}": "{{job}} {{instance}}"}),
            Panel("The store", {f"penstock_store_bytes{{{J}}}": "{{job}} {{instance}}"}, "bytes"),
        ],
        "Followers of the log": [
            Panel("Messages of alerts", {f"penstock_alert_messages{{{J}}}": "{{alert}} {{state}}"}),
            Panel(
                "Deliveries",
                {rate("penstock_alert_deliveries_total", "alert, outcome"): "{{alert}} {{outcome}}"},
                "ops",
            ),
            Panel("Offline tables: rows behind", {f"penstock_offline_export_lag_rows{{{J}}}": "{{job}}"}),
            Panel(
                "Offline tables: rows written",
                {
                    rate("penstock_offline_exported_rows_total", "job"): "rows",
                    rate("penstock_offline_export_failures_total", "job"): "failures",
                },
                "ops",
            ),
        ],
    },
)

PAGES = {"scoring": SCORING, "stream": STREAM, "models": MODELS, "operations": OPERATIONS}


def _query(expr: str, legend: str, kind: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expr).legend_format(legend).datasource(SOURCE)
    if kind == "heat":
        return query.format(PromQueryFormat.HEATMAP)
    return query.instant() if kind == "number" else query.range()


def _lines() -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    return timeseries.Panel().legend(legend.show_legend(True)).tooltip(tooltip).fill_opacity(10).line_width(1)


def _panel(panel: Panel) -> Chart:
    kinds: dict[str, Callable[[], Chart]] = {"lines": _lines, "number": stat.Panel, "heat": heatmap.Panel}
    built = (
        kinds[panel.kind]().title(panel.title).description(panel.about).unit(panel.unit).datasource(SOURCE)
    )
    number = panel.kind == "number"
    built = built.span(SMALL if number else WIDTH).height(4 if number else HEIGHT)
    for letter, (expr, legend) in zip("ABCDEF", panel.queries.items(), strict=False):
        built = built.with_target(_query(expr, legend, panel.kind).ref_id(letter))
    return built


def _choice(label: str, metric: str) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(label).query(f"label_values({metric}, {label})").datasource(SOURCE)
    variable = (
        variable.multi(True).include_all(True).all_value(".*").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    return variable.current(VariableOption(selected=True, text=["All"], value=["$__all"]))


def build(name: str, page: Page) -> str:
    """One dashboard as Grafana's JSON."""
    board = dashboard.Dashboard(page.title).uid(f"penstock-{name}").tags(["penstock"]).editable()
    board = board.refresh("10s").time("now-1h", "now").timezone("browser")
    board = board.with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
    for label, metric in page.choices.items():
        board = board.with_variable(_choice(label, metric))
    for title, panels in page.rows.items():
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(_panel(panel))
    return (
        json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(board.build())), indent=1, sort_keys=True)
        + "\n"
    )


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` name those that differ."""
    built = {FOLDER / f"{name}.json": build(name, page) for name, page in PAGES.items()}
    if arguments == ["--check"]:
        stale = [path for path, text in built.items() if not path.exists() or path.read_text() != text]
        stale += sorted(set(FOLDER.glob("*.json")) - set(built))
        if stale:
            names = ", ".join(path.name for path in stale)
            print(
                f"{names}: not what deploy/dashboards.py builds. Run python -m deploy.dashboards.",
                file=sys.stderr,
            )
        return bool(stale)
    for path, text in built.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
