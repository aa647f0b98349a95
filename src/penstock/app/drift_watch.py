"""Drift as it happens: a fold of the log that listens to an endpoint's scores, losses and features, and tells when they change.

For each watched endpoint two things go on, both against the version in Production: looks at all columns (`monitoring.drift_looks`), and
detectors on single streams (`monitoring.change_points`). What is kept between two stretches of the log is one small file an endpoint,
written whole or not at all together with the log position that it stands for. So a kill at any moment doubles and loses nothing: the
same rows are read again from that position, and give the same alarms at the same positions. A file that is lost, damaged, or of another version,
definition or log is begun anew.

One process at a time follows (`following`); whoever wants to know reads the files (`read_state`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.app.arrivals import Arrivals
from penstock.app.drifting import METHODS, Reference, reference_of
from penstock.app.retraining_data import newest_time, position_since
from penstock.app.runtime import state_folder
from penstock.core.errors import BusyError, MissingDependencyError, ModelError, NotFoundError
from penstock.core.time import DAY_US, to_us
from penstock.definitions.alerts import DRIFT_METRICS, OnMetric
from penstock.definitions.monitors import ERROR, LIVE, SCORE, Monitor
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.lookup import RowReader
from penstock.monitoring.bulk_time import BulkClock
from penstock.monitoring.change_points import STEPS, Heard, Listener, LossScale, RankScale, Scale
from penstock.monitoring.drift_looks import Look, LookRules, Looks, LooksState
from penstock.monitoring.losses import losses
from penstock.stores.lock import WriterLock

if TYPE_CHECKING:
    from penstock.definitions.project import Project
    from penstock.kernel.columns import BoolArray, IntArray
    from penstock.models.registry import ModelRegistry
    from penstock.monitoring.change_points import FloatArray
    from penstock.plan.nodes import Plan
    from penstock.stores.reader import ProjectReader

    Values = dict[str, tuple[FloatArray, BoolArray | None]]

FOLDER, LOCK = "drift", "drift.lock"
STRETCH_ROWS = 65_536
WINDOWS_BACK = 2
"""A watch that begins with what is in the log already begins so many drift windows before its end."""
MOST_KEPT = 100
FORMAT_VERSION = 2


class Alarm(msgspec.Struct, frozen=True):
    """A detector's alarm, at the log position of the row that raised it."""

    version: str
    position: int
    stream: str
    method: str
    time_us: int
    before: float
    after: float


class Looked(msgspec.Struct, frozen=True):
    """A look, at the log position of the row that brought it about."""

    version: str
    position: int
    look: Look


class WatchState(msgspec.Struct):
    """What is kept of an endpoint.

    Attributes
    ----------
    store
        The log's id.
    meaning
        The version's digest and the monitor's settings: with others it is begun anew.
    since, position
        The log positions from which on, and up to which, it counts.
    recent, newest_us
        The newest event times, and by them where the stream stands in event time.
    heard
        By stream.
    alarms, looked
        The newest, oldest first; those of earlier versions, too.
    raised
        Alarms ever, by stream and method joined by a blank.
    note
        Why nothing is listened to, where it should be.
    """

    store: str
    version: str
    meaning: str
    since: int
    position: int
    recent: list[int] = []
    newest_us: int = 0
    looks: LooksState = msgspec.field(default_factory=LooksState)
    heard: dict[str, Heard] = msgspec.field(default_factory=dict)
    alarms: list[Alarm] = msgspec.field(default_factory=list)
    looked: list[Looked] = msgspec.field(default_factory=list)
    raised: dict[str, int] = msgspec.field(default_factory=dict)
    note: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def newest_look(self) -> Look | None:
        """The newest look against the version that is watched; None before the first."""
        own = [one.look for one in self.looked if one.version == self.version]
        return own[-1] if own else None

    def changes_since(self, position: int) -> tuple[str, ...]:
        """The columns and streams of the version that alarmed from a log position on."""
        looks = [one for one in self.looked if one.version == self.version and one.position >= position]
        names = [name for one in looks for name in one.look.drifted]
        names += [
            one.stream for one in self.alarms if one.version == self.version and one.position >= position
        ]
        return tuple(dict.fromkeys(names))

    def recent_alarms(self, window_us: int) -> list[Alarm]:
        """The alarms of the version within the newest stretch of event time."""
        oldest = self.newest_us - window_us
        return [one for one in self.alarms if one.version == self.version and one.time_us > oldest]


def live_streams(project: Project, monitor: Monitor) -> tuple[str, ...]:
    """What is listened to at an endpoint: what its monitor says, else score and error where somebody waits for drift."""
    if monitor.live is not None:
        return monitor.live
    if not is_awaited(project, monitor):
        return ()
    return (SCORE,) if monitor.endpoint.model.task == "anomaly" else LIVE


def is_awaited(project: Project, monitor: Monitor) -> bool:
    """Whether an alert or a retraining waits for drift of the endpoint."""
    endpoint = monitor.endpoint
    rules = project.models[endpoint.model.name].retraining if endpoint.model.name in project.models else None
    waits = (alert.on for alert in project.alerts.values())
    return (rules is not None and rules.on_drift) or any(
        isinstance(on, OnMetric) and on.metric in DRIFT_METRICS and on.endpoint.name == endpoint.name
        for on in waits
    )


def watched_monitors(project: Project) -> list[Monitor]:
    """The monitors of the endpoints whose drift is watched as it happens."""
    from penstock.app.measuring import monitor_of

    monitors = [monitor_of(project, name) for name in project.endpoints]
    return [one for one in monitors if is_awaited(project, one) or one.live]


_state_decoder = msgspec.json.Decoder(WatchState)


def state_path(root: Path, endpoint: str) -> Path:
    """The file of an endpoint."""
    return state_folder(root) / FOLDER / f"{endpoint}.json"


def read_state(root: Path, endpoint: str) -> WatchState | None:
    """What is kept of an endpoint; None where there is nothing, or nothing of this version."""
    try:
        state = _state_decoder.decode(state_path(root, endpoint).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return state if state.format_version == FORMAT_VERSION else None


@contextmanager
def following(root: Path, *, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold the right to follow the log of the project in `root`; False where another process has it for longer than `wait_s`."""
    folder = state_folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(folder / LOCK, what="drift watch")
    try:
        lock.acquire(wait_s=wait_s)
    except BusyError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


class DriftWatch:
    """Follows the log for all endpoints of a project that are watched. Only while `following` says so.

    Parameters
    ----------
    project, plan, store, registry
        Whose drift, and where it is read.
    """

    def __init__(self, project: Project, plan: Plan, store: ProjectReader, registry: ModelRegistry) -> None:
        self._plan, self._store, self._registry = plan, store, registry
        self._root = project.root
        self._monitors = {
            one.endpoint.name: (one, live_streams(project, one)) for one in watched_monitors(project)
        }
        self._watches: dict[str, EndpointWatch] = {}
        self._head: str | None = None
        self._references: dict[str, Reference | None] = {}

    def catch_up(self, *, wait: Callable[[], bool] = bool) -> bool:
        """Take in all that is committed, a stretch at a time, and keep it; whether there was anything. `wait` true ends it early."""
        moved = False
        self._forget_references()
        for name, (monitor, streams) in self._monitors.items():
            watch = self._watch(name, monitor, streams)
            while watch is not None and watch.step():
                moved = True
                _write(state_path(self._root, name), watch.state)
                if wait():
                    return True
        return moved

    def _forget_references(self) -> None:
        """Where the registry has changed; its newest hash says so, in one row."""
        head = self._registry.head()
        if head != self._head:
            self._head = head
            self._references.clear()

    def _reference(self, model: str) -> Reference | None:
        """The version of a model that is in Production now, read once as long as the registry stays as it is."""
        if model not in self._references:
            try:
                self._references[model] = reference_of(self._registry, model)
            except (NotFoundError, ModelError):
                self._references[model] = None
        return self._references[model]

    def _watch(self, name: str, monitor: Monitor, streams: tuple[str, ...]) -> EndpointWatch | None:
        """The watch against the version in Production now; None where there is none, or nothing to compare with."""
        reference = self._reference(monitor.endpoint.model.name)
        if reference is None:
            return None
        known, kept = self._watches.get(name), read_state(self._root, name)
        is_current = known is not None and known.state.version == reference.version
        if known is not None and is_current and (kept is None or kept.position == known.state.position):
            return known
        # Another process may have followed meanwhile.
        before = kept if kept is not None or known is None else known.state
        made = EndpointWatch(
            self._store, self._plan, monitor, streams=streams, reference=reference, before=before
        )
        self._watches[name] = made
        return made


class EndpointWatch:
    """One endpoint against one version.

    Parameters
    ----------
    store, plan, monitor
        What is watched.
    streams
        What detectors listen to: ``score``, ``error``, features.
    reference
        The version.
    before
        What was kept. Of the same meaning it goes on; of another it begins where that one stood.
    """

    def __init__(
        self,
        store: ProjectReader,
        plan: Plan,
        monitor: Monitor,
        *,
        streams: tuple[str, ...],
        reference: Reference,
        before: WatchState | None = None,
    ) -> None:
        self._store, self._plan, self._monitor, self._reference = store, plan, monitor, reference
        self._endpoint, self._source = monitor.endpoint.name, plan.endpoints[monitor.endpoint.name].source
        self._rows = RowReader(store, plan.sources)
        self._arrivals = Arrivals(store, plan, monitor.endpoint.model)
        self.state = self._begin(before, _meaning(reference, monitor, streams))
        self._clock = BulkClock(self.state.recent)
        features = [one for one in reference.profile.columns if one.role == "feature"]
        score = reference.profile.column("score")
        self._features, self._score = features, score
        rules = LookRules(
            window_us=to_us(monitor.drift_window),
            false_alarms=monitor.false_alarms / 2,
            method=METHODS[monitor.false_discovery],
            min_effect=monitor.min_effect,
        )
        self._looks = Looks([*([] if score is None else [score]), *features], rules, self.state.looks)
        self._listeners = self._listening(streams)

    def step(self) -> bool:
        """Take in the next stretch of the log; False where there is none."""
        start = self.state.position
        stop = min(self._store.next_position, start + STRETCH_ROWS)
        if stop <= start:
            return False
        alarms, looked = [], []
        for positions, times, decisions in self._decisions(start, stop):
            self.state.newest_us = int(self._clock.add(times)[-1])
            self.state.recent = self._clock.recent
            values = self._values(decisions)
            alarms += self._hear_decisions(positions, times, values)
            looked += self._look(positions, times, values)
        if ERROR in self._listeners:
            alarms += self._hear_losses(start, stop)
        state = self.state
        state.alarms = [*state.alarms, *sorted(alarms, key=lambda one: (one.position, one.stream))][
            -MOST_KEPT:
        ]
        state.looked = [*state.looked, *looked][-MOST_KEPT:]
        for one in alarms:
            key = f"{one.stream} {one.method}"
            state.raised[key] = state.raised.get(key, 0) + 1
        state.looks = self._looks.state
        state.heard = {name: listener.heard for name, listener in self._listeners.items()}
        state.position = stop
        return True

    def _begin(self, before: WatchState | None, meaning: str) -> WatchState:
        store = self._store.store_id
        if before is not None and before.store == store and before.position <= self._store.next_position:
            if before.meaning == meaning:
                return before
            since, alarms, looked, raised = before.position, before.alarms, before.looked, before.raised
        else:
            since, alarms, looked, raised = self._some_windows_back(), [], [], {}
        return WatchState(
            store, self._reference.version, meaning, since, since, alarms=alarms, looked=looked, raised=raised
        )

    def _some_windows_back(self) -> int:
        model, stop = self._monitor.endpoint.model, self._store.next_position
        newest = newest_time(self._store, self._plan, model, stop=stop)
        since = (newest or 0) - WINDOWS_BACK * to_us(self._monitor.drift_window)
        since = since // DAY_US * DAY_US  # a day of which a part is missing would count nothing
        return position_since(self._store, self._plan, model, since_us=since, stop=stop)

    def _listening(self, streams: tuple[str, ...]) -> dict[str, Listener]:
        scales: dict[str, Scale] = {one.name: RankScale(one) for one in self._features}
        if self._score is not None:
            scales[SCORE] = RankScale(self._score)
        scales[ERROR] = LossScale(self._reference.profile.loss_by_hour)
        span = to_us(self._monitor.drift_window) // STEPS
        try:
            return {
                name: Listener(name, scales[name], span_us=span, heard=self.state.heard.get(name))
                for name in streams
                if name in scales
            }
        except MissingDependencyError as error:
            self.state.note = str(error)
            return {}

    def _decisions(self, start: int, stop: int) -> Iterator[tuple[IntArray, IntArray, Decisions]]:
        """Positions, event times and decisions of ``[start, stop)``, without those that were forgotten."""
        for batch in self._store.read_decisions(start, stop, endpoints={self._endpoint}):
            decisions = Decisions.from_bytes(batch.payload)
            inside = (batch.positions >= start) & (batch.positions < stop)
            kept = np.flatnonzero(inside & ((decisions.flags & np.uint8(Flag.ERASED)) == 0))
            if len(kept):
                positions = batch.positions[kept]
                yield positions, self._times(positions), decisions.take(kept)

    def _times(self, positions: IntArray) -> IntArray:
        field = self._plan.sources[self._source].time_field
        times: IntArray = self._rows.events(self._source, positions)[field].values.astype(np.int64)  # type: ignore[union-attr]
        return times

    def _values(self, decisions: Decisions) -> Values:
        """Score and features by name, and which rows count; empty where they are of other definitions."""
        reference = self._reference
        logged = self._plan.columns_of(self._endpoint, logged=decisions.service, wanted=reference.service)
        if logged is None:
            return {}
        found: Values = {}
        if self._score is not None:
            found[SCORE] = decisions.scores, decisions.of_version(reference.version)
        for at, one in zip(logged, self._features, strict=True):
            found[one.name] = decisions.vectors[:, at], None
        return found

    def _hear_decisions(self, positions: IntArray, times: IntArray, values: Values) -> list[Alarm]:
        found: list[Alarm] = []
        for name, (held, own) in values.items():
            listener = self._listeners.get(name)
            if listener is not None:
                rows = np.arange(len(positions)) if own is None else np.flatnonzero(own)
                found += self._told(listener, positions[rows], times[rows], held[rows])
        return found

    def _look(self, positions: IntArray, times: IntArray, values: Values) -> list[Looked]:
        found = self._looks.add(times, list(values.values())) if values else []
        return [Looked(self.state.version, int(positions[at]), look) for at, look in found]

    def _hear_losses(self, start: int, stop: int) -> list[Alarm]:
        """What the labels that joined their events in ``[start, stop)`` say of the version's scores, in the order in which they did."""
        labels = self._arrivals.labels(start, stop)
        if not len(labels):
            return []
        scores, times = self._scored(labels.event_positions)
        losses = self._losses(scores, labels.values)
        joined = np.maximum(labels.event_positions, labels.label_positions)
        order = np.lexsort((labels.event_positions, labels.label_positions, joined))
        return self._told(self._listeners[ERROR], joined[order], times[order], losses[order])

    def _losses(self, scores: FloatArray, labels: FloatArray) -> FloatArray:
        if self._monitor.endpoint.model.task != "regression":
            return losses(scores, labels)
        label = self._reference.profile.column("label")
        return losses(scores, labels, spread=label.spread if label is not None else 0.0)

    def _scored(self, events: IntArray) -> tuple[FloatArray, IntArray]:
        """The version's scores of events (NaN: none), and their times."""
        scores, times = np.full(len(events), np.nan), np.zeros(len(events), np.int64)
        order = np.argsort(events, kind="stable")
        ordered = events[order]
        for positions, decisions in self._rows.decisions(self._endpoint, events):
            own = decisions.of_version(self._reference.version) & (
                (decisions.flags & np.uint8(Flag.ERASED)) == 0
            )
            kept = positions[own]
            if len(kept):
                at = order[np.searchsorted(ordered, kept)]
                scores[at], times[at] = decisions.scores[own], self._times(kept)
        return scores, times

    def _told(
        self, listener: Listener, positions: IntArray, times: IntArray, values: FloatArray
    ) -> list[Alarm]:
        return [
            Alarm(
                self.state.version,
                int(positions[at]),
                point.stream,
                point.method,
                point.time_us,
                point.before,
                point.after,
            )
            for at, point in listener.add(times, values)
        ]


def _meaning(reference: Reference, monitor: Monitor, streams: tuple[str, ...]) -> str:
    settings: Mapping[str, object] = {
        "version": reference.version,
        "service": reference.service,
        "window_us": to_us(monitor.drift_window),
        "false_alarms": monitor.false_alarms,
        "false_discovery": monitor.false_discovery,
        "min_effect": monitor.min_effect,
        "streams": streams,
    }
    return msgspec.json.encode(settings).decode()


def _write(path: Path, state: WatchState) -> None:
    """Whole or not at all; what a power cut takes is folded again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    with suppress(OSError):
        aside.write_bytes(msgspec.json.encode(state))
        aside.replace(path)
