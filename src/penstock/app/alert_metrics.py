"""Metrics of alerts that need a pass over stored decisions: quality, and drift. Made beside the follower, at a bounded share of time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from penstock.app.alert_matching import group_of, monitor_of_group
from penstock.app.drift_watch import DriftWatch, WatchState, following, read_state
from penstock.app.measuring import monitor_of, stored_board
from penstock.app.runtime import open_reader, plan_of, registry_of
from penstock.core.errors import PenstockError
from penstock.core.time import to_us
from penstock.definitions.alerts import DRIFT_METRICS, STREAM_METRICS, OnMetric
from penstock.definitions.monitors import Monitor
from penstock.definitions.project import Project
from penstock.monitoring.board import ALL
from penstock.plan.nodes import Plan
from penstock.stores.reader import ProjectReader

RATE = 0.05
"""The share of one processor that these metrics may take."""
_LEAST_PAUSE_S = 5.0
PATIENCE_S = 5.0
"""So long the watch beside the run is waited for at the end, which may be in the middle of a stretch."""


class _Ended(Exception):  # noqa: N818 - no error
    """The run is over."""


class StoredMetrics:
    """Keeps the newest values of slow metrics.

    Parameters
    ----------
    project
        The definitions now.
    """

    def __init__(self, root: Path, project: Callable[[], Project]) -> None:
        self._root, self._project = root, project
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._values: dict[str, float | None] = {}
        self.problem: str | None = None
        """Why a metric could not be made lately."""

    def value(self, alert: str) -> float | None:
        """The metric of an alert as it was made last; None while it is unknown."""
        return self._values.get(alert)

    def start(self) -> None:
        """Make metrics in a thread, where an alert needs them."""
        if self._thread is None and self._wanted(self._project()):
            self._thread = threading.Thread(target=self._run, name="penstock-alert-metrics", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End within a slice of the log."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def once(self, *, pace: Callable[[int, int], None] | None = None) -> None:
        """Make each metric anew."""
        project = self._project()
        wanted = self._wanted(project)
        if not wanted:
            return
        plan = plan_of(project)
        with open_reader(self._root) as store:
            for name, on in wanted.items():
                try:
                    self._values[name] = metric_value(self._root, store, plan, project, on, progress=pace)
                    self.problem = None
                except _Ended:
                    raise
                except Exception as error:  # noqa: BLE001 - a model's or a metric's own library: told, and the others are made
                    self._values[name] = None
                    kind = "" if isinstance(error, PenstockError) else f"{type(error).__name__}: "
                    self.problem = f"{name}: {kind}{error}"

    def _run(self) -> None:
        pause = 0.0
        try:
            while not self._stop.wait(pause):
                pace = _Pace(self._stop)
                begun = time.thread_time()
                try:
                    self.once(pace=pace)
                except PenstockError as error:  # the store cannot be read: told, and tried again
                    self.problem = str(error)
                pause = max((time.thread_time() - begun) / RATE - pace.waited_s, _LEAST_PAUSE_S)
        except _Ended:
            return

    def _wanted(self, project: Project) -> dict[str, OnMetric]:
        return {alert.name: alert.on for alert in project.alerts.values() if is_slow(alert.on)}  # type: ignore[misc]


class _Pace:
    """Waits after each slice of the log, so that the thread that scores is not kept from the interpreter for long."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop, self._mark_s = stop, time.thread_time()
        self.waited_s = 0.0

    def __call__(self, _done: int, _total: int) -> None:
        spent = time.thread_time() - self._mark_s
        wait = spent / RATE - spent
        if self._stop.wait(wait):
            raise _Ended
        self.waited_s += wait
        self._mark_s = time.thread_time()


def is_slow(on: object) -> bool:
    """Whether a condition needs a pass over stored decisions."""
    return isinstance(on, OnMetric) and on.metric not in STREAM_METRICS


def metric_value(
    root: Path,
    store: ProjectReader,
    plan: Plan,
    project: Project,
    on: OnMetric,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> float | None:
    """A quality or drift metric now; None where too little is known."""
    monitor = monitor_of(project, on.endpoint.name)
    if on.metric in DRIFT_METRICS:
        if progress is None:  # nobody is kept waiting, and the watch beside the run may have ended
            with following(root, wait_s=PATIENCE_S) as mine:
                if mine:
                    DriftWatch(project, plan, store, registry_of(root)).catch_up()
        return _drift_figure(on, monitor, read_state(root, on.endpoint.name))
    group = ALL if on.of is None else group_of(on.of)
    watched = Monitor(
        monitor.name,
        endpoint=monitor.endpoint,
        windows=[on.window],
        delay=monitor.delay,
        quantile=monitor.quantile,
        segments=monitor_of_group(on).segments,
    )
    board = stored_board(store, plan, watched, only=None if on.of is None else group, progress=progress)
    windows = board.windows(group) if group in board.groups else []
    mature = [window for window in windows if window.mature]
    return _figure(on, (window.quality for window in mature))


def _drift_figure(on: OnMetric, monitor: Monitor, state: WatchState | None) -> float | None:
    if state is None:
        return None
    if on.metric == "change_points":
        return float(len(state.recent_alarms(to_us(monitor.drift_window))))
    look = state.newest_look
    return None if look is None or look.rows < on.at_least else float(len(look.drifted))


def _figure(on: OnMetric, qualities: Iterable[object]) -> float | None:
    for quality in qualities:
        known = quality.labelled  # type: ignore[attr-defined]
        if on.metric == "unevenness":  # which needs no labels
            known += quality.pending  # type: ignore[attr-defined]
        if known >= on.at_least:
            found: float | None = getattr(quality, on.metric)
            return found
    return None
