"""``GET /metrics``: what `serving.metric_catalog` lists, in Prometheus' text format or as OpenMetrics.

A scrape copies numbers that are there already, and writes them; it takes no lock for longer than the copy, asks no store, and waits for no disk.
Serve it from a thread that is not the event loop's.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import penstock
from penstock.monitoring.batch_facts import SCORE_EDGES
from penstock.monitoring.system import SystemReader, SystemReading
from penstock.serving.metric_catalog import METRICS

if TYPE_CHECKING:
    from penstock.app.alerting import Alerting
    from penstock.app.runtime import Runtime
    from penstock.monitoring.buckets import Buckets
    from penstock.monitoring.stream_counts import StreamCounts, StreamTotals
    from penstock.serving.metric_readings import MetricReader, Readings
    from penstock.serving.request_counts import RequestCounts

NamesT = TypeVar("NamesT", bound=tuple[str, ...])
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_SCORE_EDGES = (0.01, 0.02, 0.05, *(step / 10 for step in range(1, 10)), 0.95, 0.98, 0.99, 1.0)
"""Of the steps in which scores are counted, those that Prometheus is given."""
_SCORE_STEPS = [SCORE_EDGES.index(edge) for edge in _SCORE_EDGES]


class Waiting(NamedTuple):
    """The queue of requests at one moment: what waits, and how many were refused since the start."""

    requests: int
    events: int
    bytes: int
    refused: int


class Page:
    """Families of metrics as they are filled; only what the catalog lists can be."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def add(self, name: str, value: float, *labels: str) -> None:
        """One value of a counter or gauge."""
        family = self._family(name)
        assert not isinstance(family, HistogramMetricFamily)
        family.add_metric(labels, value)

    def add_all(self, name: str, values: Mapping[NamesT, float]) -> None:
        """Values by their labels."""
        for labels, value in values.items():
            self.add(name, value, *labels)

    def histogram(
        self, name: str, ends: Sequence[float], counts: Iterable[int], total: float, *labels: str
    ) -> None:
        """A histogram: counts of values up to each of `ends` and beyond, not cumulated, and the sum of the values."""
        family = self._family(name)
        assert isinstance(family, HistogramMetricFamily)
        steps = zip([*map(_end, ends), "+Inf"], accumulate(counts), strict=True)
        family.add_metric(labels, [(end, float(count)) for end, count in steps], total)

    def buckets(self, name: str, buckets: Buckets, *labels: str) -> None:
        """As `histogram`."""
        self.histogram(name, buckets.ends, buckets.counts, buckets.total, *labels)

    def families(self) -> Iterator[Family]:
        """In the order of the catalog."""
        return (self._families[name] for name in METRICS if name in self._families)

    def _family(self, name: str) -> Family:
        if name not in self._families:
            metric = METRICS[name]
            kinds = {
                "counter": CounterMetricFamily,
                "gauge": GaugeMetricFamily,
                "histogram": HistogramMetricFamily,
            }
            self._families[name] = kinds[metric.kind](name, metric.meaning, labels=metric.labels)
        return self._families[name]


class Exposition(Collector):
    """The metrics of a running project.

    Parameters
    ----------
    runtime, counts
        The open project, and the totals of its engine.
    reader
        What needs queries; open.
    requests, waiting
        Of the HTTP API, where there is one.
    alerts
        What sends alerts, where there are any.
    """

    def __init__(
        self,
        runtime: Runtime,
        counts: StreamCounts,
        reader: MetricReader,
        *,
        requests: RequestCounts | None = None,
        waiting: Callable[[], Waiting] | None = None,
        alerts: Alerting | None = None,
    ) -> None:
        self._runtime, self._counts, self._reader = runtime, counts, reader
        self._requests, self._waiting = requests, waiting
        self.alerts = alerts
        self._system = SystemReader(runtime.project.root)
        self._started_us = runtime.clock.now_us()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The body and its content type, in the format that an ``Accept`` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> Iterable[Family]:
        """Nothing: the registry need not ask before the first scrape."""
        return ()

    def collect(self) -> Iterator[Family]:
        """The metrics now."""
        page = Page()
        if self._requests is not None:
            _http(page, self._requests)
        self._reader.quality.ask()
        totals, readings, now_us = self._counts.totals(), self._reader.newest, self._runtime.clock.now_us()
        fill(page, self._runtime, totals, now_us=now_us)
        if self._waiting is not None:
            _queue(page, self._waiting())
        _stored(page, readings)
        _audit(page, readings)
        _training(page, readings)
        _drift(page, readings)
        _quality(page, readings)
        self._followers(page, readings)
        self._build(page)
        _machine(page, self._system.read())
        return page.families()

    def _followers(self, page: Page, readings: Readings) -> None:
        page.add_all("penstock_alert_messages", readings.messages)
        if self.alerts is not None:
            page.add_all("penstock_alert_deliveries_total", self.alerts.outcomes())
        if readings.exported is not None:
            exported = readings.exported
            page.add("penstock_offline_exported_rows_total", exported.rows)
            page.add("penstock_offline_export_failures_total", exported.failures)
            page.add("penstock_offline_export_lag_rows", max(readings.log_rows - exported.position, 0))

    def _build(self, page: Page) -> None:
        fill_build(page, self._runtime)
        page.add("penstock_start_time_seconds", self._started_us / 1e6)


def fill_build(page: Page, runtime: Runtime) -> None:
    """What runs."""
    names = (penstock.__version__, platform.python_version(), runtime.plan.fingerprint[:12])
    page.add("penstock_build_info", 1, *names)


def fill(page: Page, runtime: Runtime, totals: StreamTotals, *, now_us: int) -> None:
    """What an open project knows of itself without asking a store."""
    _decisions(page, totals)
    _routes(page, runtime)
    _stream(page, totals, now_us=now_us)
    for endpoint in runtime.plan.endpoints:
        page.add("penstock_reasons_withheld_total", runtime.withheld_reasons[endpoint], endpoint)
    for what in list(runtime.problems):
        page.add("penstock_problem", 1, what)
    _views(page, totals, runtime, now_us=now_us)


def _http(page: Page, requests: RequestCounts) -> None:
    counts, seconds = requests.totals()
    page.add_all("penstock_http_requests_total", counts)
    for route, buckets in seconds.items():
        page.buckets("penstock_http_request_duration_seconds", buckets, route)


def _decisions(page: Page, totals: StreamTotals) -> None:
    for who, arm in totals.arms.items():
        for action, count in arm.taken.items():
            page.add("penstock_decisions_total", count, *who, action)
        page.add("penstock_alerted_decisions_total", arm.alerts, *who)
        up_to = list(accumulate(arm.scores.tolist()))
        ends = [up_to[step] for step in _SCORE_STEPS] + up_to[-1:]
        steps = [count - before for count, before in zip(ends, [0, *ends], strict=False)]
        page.histogram("penstock_score", _SCORE_EDGES, steps, arm.score_sum, *who)
    page.add_all("penstock_flagged_decisions_total", totals.flags)
    page.add_all("penstock_rule_decisions_total", totals.rules)


def _routes(page: Page, runtime: Runtime) -> None:
    for name in runtime.plan.endpoints:
        route = runtime.routes[name]
        total = sum(arm.weight for arm in route.serving)
        for role, arms in (("serving", route.serving), ("shadow", route.shadows)):
            for arm in arms:
                share = arm.weight / total if role == "serving" and total else 0.0
                version = arm.named.version.partition("+")[0]
                page.add("penstock_arm_weight", share, name, arm.name, version, role)
    shadows = runtime.shadows
    for outcome, counts in (("scored", shadows.scored), ("failed", shadows.failed), ("lost", shadows.lost)):
        for both, count in dict(counts).items():
            endpoint, _, name_of_arm = both.partition("/")
            page.add("penstock_shadow_events_total", count, endpoint, name_of_arm, outcome)
    for endpoint, count in dict(shadows.dropped).items():
        page.add("penstock_shadow_left_out_events_total", count, endpoint)


def _stream(page: Page, totals: StreamTotals, *, now_us: int) -> None:
    page.add_all("penstock_events_received_total", totals.received)
    page.add_all("penstock_events_total", totals.events)
    page.add_all("penstock_events_rejected_total", totals.rejected)
    page.add_all("penstock_events_late_total", totals.late)
    for source, newest_us in totals.newest_us.items():
        page.add("penstock_newest_event_timestamp_seconds", newest_us / 1e6, source)
        page.add("penstock_event_lag_seconds", (now_us - newest_us) / 1e6, source)
    page.buckets("penstock_micro_batch_events", totals.batches)
    page.buckets("penstock_micro_batch_duration_seconds", totals.durable_s)
    page.buckets("penstock_commit_duration_seconds", totals.commit_s)
    page.add_all("penstock_labels_total", totals.labels)
    page.add_all("penstock_label_values_total", totals.truths)
    page.add("penstock_keys_evicted_total", totals.evicted)


def _queue(page: Page, waiting: Waiting) -> None:
    page.add("penstock_queue_requests", waiting.requests)
    page.add("penstock_queue_events", waiting.events)
    page.add("penstock_queue_bytes", waiting.bytes)
    page.add("penstock_queue_refused_requests_total", waiting.refused)


def _stored(page: Page, readings: Readings) -> None:
    page.add("penstock_log_rows", readings.log_rows)
    page.add("penstock_dead_letters", readings.dead_letters)
    page.add("penstock_labels_pending", readings.labels_pending)
    page.add("penstock_store_bytes", readings.store_bytes)
    for source, behind in readings.behind.items():
        page.add("penstock_input_lag_bytes", behind, source)
    for source, waiting in readings.waiting.items():
        page.add("penstock_input_lag_messages", waiting, source)


def _views(page: Page, totals: StreamTotals, runtime: Runtime, *, now_us: int) -> None:
    for view in runtime.plan.views:
        newest_us = totals.newest_us.get(view.source)
        if newest_us is not None:
            page.add("penstock_view_newest_timestamp_seconds", newest_us / 1e6, view.name)
            page.add("penstock_view_freshness_seconds", (now_us - newest_us) / 1e6, view.name)


def _audit(page: Page, readings: Readings) -> None:
    audit = readings.audit
    if audit is not None:
        page.add("penstock_audit_vectors_total", audit.vectors)
        page.add("penstock_audit_values_total", audit.values)
        page.add("penstock_audit_mismatches_total", audit.differing)
        page.add("penstock_audit_missing_total", audit.missing)
        page.add("penstock_audit_lag_rows", max(readings.log_rows - audit.position, 0))


def _training(page: Page, readings: Readings) -> None:
    found = readings.retraining
    page.add_all("penstock_retraining_attempts_total", found.outcomes)
    page.add_all("penstock_retraining_seconds_total", found.seconds)
    page.add_all("penstock_retraining_last_duration_seconds", found.last_seconds)
    for model, under_way in found.under_way.items():
        page.add("penstock_retraining_under_way", int(under_way), model)
    for model, started_us in found.last_started_us.items():
        page.add("penstock_retraining_last_timestamp_seconds", started_us / 1e6, model)
    page.add_all("penstock_gate_verdicts_total", found.verdicts)
    page.add_all("penstock_model_versions", readings.versions)


def _drift(page: Page, readings: Readings) -> None:
    for found in readings.drift:
        if found.version is None:
            continue
        page.add("penstock_drift_lag_rows", max(readings.log_rows - found.position, 0), found.endpoint)
        if found.drifted is not None:
            page.add("penstock_drifted_columns", len(found.drifted), found.endpoint)
        for one in found.raised:
            page.add(
                "penstock_change_points_total", one["count"], found.endpoint, one["stream"], one["method"]
            )


def _quality(page: Page, readings: Readings) -> None:
    for found in readings.quality:
        page.add("penstock_quality_made_timestamp_seconds", found.made_us / 1e6, found.endpoint)
        page.add("penstock_quality_window_end_timestamp_seconds", found.end_us / 1e6, found.endpoint)
        for one in found.groups:
            who = found.endpoint, one.arm, one.version
            for state, count in one.states.items():
                page.add("penstock_quality_decisions", count, *who, state)
            for figure, value in one.figures.items():
                page.add(f"penstock_quality_{figure}", value, *who)
            for action, figures in one.actions.items():
                for figure, value in figures.items():
                    page.add(f"penstock_quality_{figure}", value, *who, action)


def _machine(page: Page, system: SystemReading) -> None:
    for mode, seconds in system.cpu_s.items():
        page.add("penstock_cpu_seconds_total", seconds, mode)
    page.add("penstock_cpus", system.processors)
    page.add("penstock_memory_bytes", system.memory_total, "total")
    page.add("penstock_memory_bytes", system.memory_available, "available")
    page.add("penstock_disk_bytes", system.disk_total, "total")
    page.add("penstock_disk_bytes", system.disk_free, "free")
    for name, count in (
        ("penstock_disk_read_bytes_total", system.disk_read_bytes),
        ("penstock_disk_written_bytes_total", system.disk_written_bytes),
        ("penstock_process_read_bytes_total", system.process_read_bytes),
        ("penstock_process_written_bytes_total", system.process_written_bytes),
    ):
        if count is not None:
            page.add(name, count)
    page.add("penstock_process_threads", system.process_threads)
    for gpu in system.gpus:
        page.add("penstock_gpu_busy_ratio", gpu.busy, str(gpu.number))
        page.add("penstock_gpu_memory_bytes", gpu.memory_total, str(gpu.number), "total")
        page.add("penstock_gpu_memory_bytes", gpu.memory_used, str(gpu.number), "used")


def _end(end: float) -> str:
    return f"{end:g}"
