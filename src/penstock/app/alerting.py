"""Alerts beside a running project: a thread that reads the log, one a receiver that sends, and what the commands show.

with alerting(runtime) as alerts:
    ...
    alerts.finish()
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.app.alert_following import AlertFollower, Watched
from penstock.app.alert_lists import ListChanger
from penstock.app.alert_matching import Reasons
from penstock.app.alert_metrics import StoredMetrics
from penstock.app.alert_sending import POLL_S, Sender, receivers_of
from penstock.app.reasons import Reasoners
from penstock.app.runtime import audit_log_of, open_reader, state_folder
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import InputError, NotFoundError, PenstockError
from penstock.core.time import from_us, to_us
from penstock.definitions.alert_lists import AddTo
from penstock.definitions.alerts import Alert, OnMetric
from penstock.definitions.project import Project
from penstock.monitoring.alert_messages import body_of, message_key
from penstock.monitoring.alert_sinks import Outbound, Outcome, problem_with
from penstock.stores.alerts import STATES, AlertStore, LogRow
from penstock.stores.reader import ProjectReader

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.plan.nodes import Plan

_watched_decoder = msgspec.json.Decoder(Watched)

PROBLEM = "alerts"
SILENCE, RETRY, TEST = "alert.silence", "alert.retry", "alert.test"
"""What these rows are called in the audit log; the subject is the alert."""
FINISH_S, END_S = 10.0, 2.0
_LOOK_EVERY_S = 10.0


def alerts_path(root: Path) -> Path:
    """What the alerts of the project in `root` have to tell."""
    return state_folder(root) / "alerts.db"


class Alerting:
    """Follows the log of a runtime while it is open; what goes wrong stands in `Runtime.problems` under ``alerts``.

    Nothing is opened before the project has alerts.
    """

    def __init__(self, runtime: Runtime, *, clock: Clock | None = None) -> None:
        self._runtime = runtime
        self._clock = clock or SystemClock()
        self._lists = ListChanger(runtime)
        self._metrics = StoredMetrics(runtime.project.root, lambda: runtime.project)
        self._open: tuple[ProjectReader, AlertStore, AlertFollower] | None = None
        self._senders: dict[str, Sender] = {}
        self._defined: Project | None = None
        self._looked_s = time.monotonic()
        self._without_reasons, self._why_without = 0, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-alerts", daemon=True)

    def outcomes(self) -> Counter[tuple[str, str]]:
        """Attempts to send since the start, by alert and what became of them."""
        return sum((sender.outcomes for sender in list(self._senders.values())), Counter())

    def start(self) -> None:
        """Begin where the last run stood; alerts that are new see what is decided from now on."""
        try:
            self._take_over()
        except PenstockError as error:  # the thread tries again; decisions are made meanwhile
            self._runtime.problems[PROBLEM] = str(error)
        self._thread.start()

    def finish(self, timeout_s: float = FINISH_S) -> None:
        """Look at all that is committed, close groups, and send what receivers take within `timeout_s`; the rest waits."""
        self._pause()
        if self._open is None:
            return
        _, store, follower = self._open
        try:
            self._metrics.once()
            while follower.step(self._clock.now_us(), close_groups=True):
                pass
        except Exception as error:  # noqa: BLE001 - a plugin's own: what is not told waits for the next run
            self._runtime.problems[PROBLEM] = str(error)
            return
        until = time.monotonic() + timeout_s
        while time.monotonic() < until and store.due_count(list(self._senders), self._clock.now_us()):
            self._runtime.list_asks.serve(self._runtime)  # the engine's thread is this one
            time.sleep(POLL_S / 10)

    def close(self) -> None:
        """End; what is not told waits for the next run."""
        self._pause()
        ended = [sender.stop(END_S) for sender in self._senders.values()]
        if self._open is not None:
            log, store, _ = self._open
            log.close()
            if all(ended):  # else an attempt is under way, and its thread ends with the process
                store.close()

    def _pause(self) -> None:
        self._stop.set()
        self._metrics.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            moved = False
            try:
                self._take_over()
                moved = self._look()
            except PenstockError as error:
                self._runtime.problems[PROBLEM] = str(error)
            except Exception as error:  # noqa: BLE001 - a plugin's own: told, and nothing of the step counts, so it is made again
                self._runtime.problems[PROBLEM] = f"{type(error).__name__}: {error}"
            if not moved:
                self._stop.wait(POLL_S)

    def _look(self) -> bool:
        if self._open is None:
            return False
        _, store, follower = self._open
        moved = follower.step(self._clock.now_us())
        if time.monotonic() - self._looked_s > _LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            store.expire(self._clock.now_us())
            self._note()
        return moved

    def _take_over(self) -> None:
        """The definitions in force, and senders for receivers that are new."""
        project, plan = self._runtime.project, self._runtime.plan
        if project is self._defined or (self._open is None and not _concerned(project)):
            return
        if self._open is None:
            log, store = open_reader(project.root), AlertStore(alerts_path(project.root))
            self._open = (
                log,
                store,
                AlertFollower(
                    log,
                    store,
                    stored_metric=self._metrics.value,
                    reasons=self._reasons_or_none(Reasoners(self._runtime).of),
                ),
            )
        _, store, follower = self._open
        follower.define(project, plan)
        receivers = receivers_of(project.alerts)
        for sender in self._senders.values():
            sender.receivers = receivers
        for name in {name for _, name in receivers} - set(self._senders):
            self._senders[name] = Sender(name, store, receivers, clock=self._clock, lists=self._lists.send)
            self._senders[name].start()
        self._defined = project
        self._metrics.start()
        self._note()

    def _reasons_or_none(self, reasons: Reasons) -> Reasons:
        """Reasons as far as they can be had: an alert goes without them rather than not at all."""

        def found(
            endpoint: str,
            model: str | None,
            features: Mapping[str, float | None],
            *,
            score: float | None,
            top: int,
        ) -> list[dict[str, Any]] | None:
            try:
                return reasons(endpoint, model, features, score=score, top=top)
            except Exception as error:  # noqa: BLE001 - a model's own library may raise anything
                self._without_reasons += 1
                self._why_without = f"{type(error).__name__}: {error}"
                return None

        return found

    def _note(self) -> None:
        found = [*problems(self._runtime.project), *filter(None, [self._metrics.problem])]
        found += unused_lists(self._runtime.project, self._runtime.plan)
        found += filter(None, [sender.problem for sender in list(self._senders.values())])
        if self._without_reasons:
            found.append(
                f"{self._without_reasons} told without reasons, lately because of {self._why_without}"
            )
        if found:
            self._runtime.problems[PROBLEM] = "; ".join(found)
        else:
            self._runtime.problems.pop(PROBLEM, None)


def _concerned(project: Project) -> bool:
    """Whether there are alerts, or were."""
    return bool(project.alerts) or alerts_path(project.root).exists()


@contextmanager
def alerting(
    runtime: Runtime, *, finish: Callable[[], bool] = bool, clock: Clock | None = None
) -> Iterator[Alerting]:
    """Alerts beside `runtime` while open; at the end what is committed is told, where `finish` says so."""
    running = Alerting(runtime, clock=clock)
    running.start()
    try:
        yield running
        if finish():
            running.finish()
    finally:
        running.close()


def problems(project: Project, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Why messages cannot be sent as things stand."""
    found = ((alert, problem_with(to, environ)) for alert in project.alerts.values() for to in alert.to)
    return list(dict.fromkeys(f"alert {alert.name}: {problem}" for alert, problem in found if problem))


def unused_lists(project: Project, plan: Plan) -> list[str]:
    """Which alerts put keys on a list that nothing uses."""
    pairs = (
        (alert.name, to.keys.name)
        for alert in project.alerts.values()
        for to in alert.to
        if isinstance(to, AddTo)
    )
    return [
        f"alert {alert}: no rule, model or service uses the list {name}, so nobody would see its members"
        for alert, name in pairs
        if name not in plan.sources
    ]


@dataclass(frozen=True, slots=True)
class AlertStatus:
    """An alert as `penstock alerts list` shows it: its state, the metric's value, and how many messages are in each state."""

    name: str
    on: str
    to: tuple[str, ...]
    state: str
    value: float | None
    silenced_until_us: int | None
    messages: Mapping[str, int]
    problems: tuple[str, ...]


def statuses(project: Project, *, clock: Clock | None = None) -> list[AlertStatus]:
    """How the alerts of a project stand; works beside a running engine."""
    path, now_us = alerts_path(project.root), (clock or SystemClock()).now_us()
    counts: dict[str, dict[str, int]] = {}
    silences: dict[str, int] = {}
    states: dict[str, str] = {}
    if path.exists():
        with closing(AlertStore(path)) as store:
            counts, silences, states = store.counts(), store.silences(now_us), store.states()
    return [
        _status(alert, states.get(alert.name, ""), silences.get(alert.name), counts.get(alert.name, {}))
        for alert in project.alerts.values()
    ]


def _status(alert: Alert, text: str, silenced: int | None, messages: Mapping[str, int]) -> AlertStatus:
    watched = _watched_decoder.decode(text) if text else None
    is_metric = isinstance(alert.on, OnMetric)
    return AlertStatus(
        name=alert.name,
        on=alert.on.text,
        to=tuple(to.name for to in alert.to),
        state=("ok" if watched is None else watched.state.phase) if is_metric else "",
        value=None if watched is None else watched.state.value,
        silenced_until_us=silenced,
        messages=messages,
        problems=tuple(problem for to in alert.to if (problem := problem_with(to, os.environ))),
    )


def alert_named(project: Project, name: str) -> Alert:
    """The alert; raises `NotFoundError` listing those that there are."""
    if name not in project.alerts:
        raise NotFoundError(
            f"alert {name!r} does not exist; there are {', '.join(project.alerts) or 'none'}. Choose one, or define it: "
            "Alert(...)."
        )
    return project.alerts[name]


def try_out(alert: Alert, *, clock: Clock | None = None) -> dict[str, Outcome]:
    """Send a test message to each receiver of an alert, now, and say what became of it."""
    now_us = (clock or SystemClock()).now_us()
    body = body_of("alert.test", now_us, {"alert": alert.name, "endpoint": alert.on.endpoint.name})
    key = message_key(alert.name, "test", now_us)
    with closing(Outbound(os.environ)) as outbound:
        return {
            to.name: Outcome(delivered=True)  # a test puts nobody on a list
            if isinstance(to, AddTo)
            else outbound.send(to, key, body, now_us=now_us)
            for to in alert.to
        }


def silence(
    project: Project, name: str, lasting: timedelta, *, actor: str, reason: str, clock: Clock | None = None
) -> int:
    """Only note what an alert has to tell, for a while (0: no more); until when. Kept in the audit log."""
    if lasting < timedelta(0):
        raise InputError(
            f"alert {name!r}: it is to be silenced for {lasting}; allowed is a time of at least 0."
        )
    alert = alert_named(project, name)
    now = clock or SystemClock()
    until_us = now.now_us() + to_us(lasting)
    detail = {"until": from_us(until_us).isoformat()}
    audit_log_of(project.root, clock=now).append(SILENCE, alert.name, detail, actor=actor, reason=reason)
    with closing(AlertStore(alerts_path(project.root))) as store:
        store.silence(alert.name, until_us)
    return until_us


def revive(project: Project, name: str, *, clock: Clock | None = None) -> int:
    """Let what was given up be tried again by the next run; how many messages."""
    alert = alert_named(project, name)
    if not alerts_path(project.root).exists():
        return 0
    with closing(AlertStore(alerts_path(project.root))) as store:
        now_us = (clock or SystemClock()).now_us()
        return store.revive(alert.name, now_us, give_up_after_us=to_us(alert.give_up_after))


def logged(
    root: Path,
    *,
    alert: str | None = None,
    state: str | None = None,
    limit: int = 50,
    before: int | None = None,
) -> list[LogRow]:
    """The newest messages of the project in `root`, newest first: all, or those with an id less than `before`.

    Raises
    ------
    InputError
        `state` is none that messages have.
    """
    if state is not None and state not in STATES:
        raise InputError(f"alerts: state is {state!r}; allowed are {', '.join(STATES)}. Choose one.")
    if not alerts_path(root).exists():
        return []
    with closing(AlertStore(alerts_path(root))) as store:
        return store.log(alert=alert, state=state, limit=limit, before=before)
