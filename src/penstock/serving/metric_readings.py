"""What metrics need a query for: read every few seconds in a thread of its own, by a reader of its own, so that no scrape waits for a disk."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from penstock.app.alerting import alerts_path
from penstock.app.auditing import AuditTotals, read_totals
from penstock.app.drift_live import LiveDrift, live_drift
from penstock.app.drift_watch import watched_monitors
from penstock.app.exporting_beside import Exported, exported, exports
from penstock.app.input_lag import bytes_behind
from penstock.app.kafka_inputs import messages_behind
from penstock.app.quality_beside import QualityBeside
from penstock.app.retraining_journal import ACTION
from penstock.app.runtime import open_reader
from penstock.core.errors import PenstockError
from penstock.stores.alerts import AlertStore

if TYPE_CHECKING:
    from penstock.app.inputs import Input
    from penstock.app.quality_figures import EndpointQuality
    from penstock.app.runtime import Runtime
    from penstock.stores.audit_log import AuditRow
    from penstock.stores.reader import ProjectReader

EVERY_S = 10.0
Pair = tuple[str, str]


@dataclass(slots=True, eq=False)
class Retraining:
    """What the audit log says of retraining; keys begin with the model.

    Attributes
    ----------
    outcomes, verdicts, seconds
        Totals, by outcome, by the gate's verdict, by stage.
    last_seconds, last_started_us
        Of the newest attempt that ended.
    under_way
        Models whose newest attempt has no outcome.
    """

    outcomes: Counter[Pair] = field(default_factory=Counter)
    verdicts: Counter[Pair] = field(default_factory=Counter)
    seconds: dict[Pair, float] = field(default_factory=dict)
    last_seconds: dict[Pair, float] = field(default_factory=dict)
    last_started_us: dict[str, int] = field(default_factory=dict)
    under_way: dict[str, bool] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Readings:
    """What was read last; empty where it could not be."""

    log_rows: int = 0
    dead_letters: int = 0
    labels_pending: int = 0
    store_bytes: int = 0
    behind: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    audit: AuditTotals | None = None
    retraining: Retraining = field(default_factory=Retraining)
    versions: Counter[Pair] = field(default_factory=Counter)
    messages: dict[Pair, int] = field(default_factory=dict)
    exported: Exported | None = None
    drift: tuple[LiveDrift, ...] = ()
    quality: tuple[EndpointQuality, ...] = ()


class MetricReader:
    """Reads again and again while it is open; use it as a context manager.

    Parameters
    ----------
    runtime
        The open project; only its definitions, registry and audit log are used, not its store.
    inputs
        What the run reads.
    """

    def __init__(self, runtime: Runtime, inputs: Sequence[Input] = (), *, every_s: float = EVERY_S) -> None:
        self._runtime, self._inputs, self._every_s = runtime, inputs, every_s
        self._readings = Readings()
        self.quality = QualityBeside(runtime.project.root, lambda: runtime.project)
        """To be asked by whoever shows quality: nothing is made for nobody."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(self._every_s)
        self.quality.close()

    @property
    def newest(self) -> Readings:
        """What was read last."""
        return self._readings

    def look(self) -> None:
        """Read now. What cannot be read stays as it was: a metric that stands still must not stop the others."""
        with open_reader(self._runtime.project.root) as store:
            self._look(store)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with open_reader(self._runtime.project.root) as store:
                    while not self._stop.is_set():
                        self._look(store)
                        self._stop.wait(self._every_s)
            except PenstockError:  # the engine meets it too, and says so
                self._stop.wait(self._every_s)

    def _look(self, store: ProjectReader) -> None:
        before, runtime = self._readings, self._runtime
        _tried(self.quality.look, None)
        root = runtime.project.root
        self._readings = Readings(
            log_rows=store.next_position,
            dead_letters=store.dead_letter_count(),
            labels_pending=store.counters().get("labels_pending", 0),
            store_bytes=store.size_bytes(),
            behind=bytes_behind(self._inputs, store.offsets(), runtime.plan.sources),
            waiting=_tried(lambda: messages_behind(self._inputs), before.waiting),
            audit=read_totals(root),
            retraining=_tried(
                lambda: retraining_of(runtime.routes.audit.rows(action=ACTION)), before.retraining
            ),
            versions=_tried(lambda: _versions(runtime), before.versions),
            messages=_tried(lambda: _messages(root), before.messages),
            exported=exported(root) if exports(runtime) else None,
            drift=_drift(runtime),
            quality=tuple(self.quality.newest),
        )


def retraining_of(rows: Sequence[AuditRow]) -> Retraining:
    """The totals of the rows that `penstock.app.retraining_journal` writes; nothing in them ever goes down."""
    found = Retraining()
    started: dict[int, int] = {}
    for row in rows:
        model, values = row.subject, row.values()
        if values["event"] == "begin":
            started[row.sequence] = row.time_us
            found.under_way[model] = True
        elif values["event"] == "end":
            found.under_way[model] = False
            found.outcomes[model, values["outcome"]] += 1
            if "verdict" in values:
                found.verdicts[model, values["verdict"]] += 1
            for stage, seconds in values.get("seconds", {}).items():
                found.seconds[model, stage] = found.seconds.get((model, stage), 0.0) + seconds
                found.last_seconds[model, stage] = seconds
            found.last_started_us[model] = started.get(values["attempt"], row.time_us)
    return found


def _drift(runtime: Runtime) -> tuple[LiveDrift, ...]:
    project = runtime.project
    return tuple(live_drift(project, monitor.endpoint.name) for monitor in watched_monitors(project))


def _versions(runtime: Runtime) -> Counter[Pair]:
    models = runtime.project.models
    return Counter((name, one.stage) for name in models for one in runtime.registry.versions(name))


def _messages(root: Path) -> dict[Pair, int]:
    path = alerts_path(root)
    if not path.exists():
        return {}
    with closing(AlertStore(path)) as store:
        return {(alert, state): n for alert, states in store.counts().items() for state, n in states.items()}


def _tried(read: Callable[[], Any], before: Any) -> Any:
    try:
        return read()
    except (PenstockError, OSError):
        return before
