"""The follower of the log that fills the outbox of alerts: it reads what is committed, and never touches the engine.

Each step looks at a stretch of decisions, and stores what is to be told of them together with how far it has come. A crash at any moment
leaves both as they were; the same messages are then made again, under the same keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from penstock.app.alert_lists import listing
from penstock.app.alert_matching import Matcher, Reasons, Told, no_reasons
from penstock.app.alert_metrics import is_slow
from penstock.core.time import from_us, to_us
from penstock.definitions.alert_lists import AddTo
from penstock.definitions.alerts import Alert, OnDecision, OnMetric, Receiver
from penstock.definitions.project import Project
from penstock.engine.decisions import Decisions
from penstock.engine.lookup import RowReader
from penstock.kernel.columns import IntArray
from penstock.monitoring.alert_messages import Group, body_of, message_key
from penstock.monitoring.alerts import METRICS, Rolling, Rule, State, advance
from penstock.plan.nodes import Plan
from penstock.stores.alerts import AlertStore, Changes, Outgoing
from penstock.stores.reader import ProjectReader

_group_decoder = msgspec.json.Decoder(Group)

STRETCH_ROWS = 65_536


class Watched(msgspec.Struct):
    """What is kept of an alert on a metric: where it stands, the newest stretch of the stream, and of which part of it."""

    state: State
    rolling: Rolling
    of: tuple[str, str] | None = None


_watched_decoder = msgspec.json.Decoder(Watched)


class AlertFollower:
    """Looks at decisions in log order, and at metrics.

    Parameters
    ----------
    log
        A reader of its own.
    stored_metric
        The newest value of a metric that is made elsewhere, by the alert's name.
    reasons
        Says why a model gave its score.
    """

    def __init__(
        self,
        log: ProjectReader,
        store: AlertStore,
        *,
        stored_metric: Callable[[str], float | None],
        reasons: Reasons = no_reasons,
    ) -> None:
        self._log, self._store, self._stored_metric = log, store, stored_metric
        self._reasons = reasons
        self._features: dict[str, dict[str, int]] = {}
        self._defined: Project | None = None
        self._alerts: dict[str, Alert] = {}
        self._since: dict[str, int] = {}
        self._watched: dict[str, Watched] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._matcher: Matcher
        self.position = 0
        """Up to where decisions were looked at."""

    def define(self, project: Project, plan: Plan) -> None:
        """Go on with these definitions; alerts that are new see what is decided from now on."""
        end = self._log.next_position
        since = end if self._defined is None else self.position
        self.position = self._store.begin(self._log.store_id, project.alerts, end, since=since)
        self._defined = project
        self._alerts = {
            name: one for name, one in project.alerts.items() if one.on.endpoint.name in plan.endpoints
        }
        self._since = self._store.since()
        self._matcher = Matcher(plan, RowReader(self._log, plan.sources), self._features, self._reasons)
        self._restore()

    def step(self, now_us: int, *, close_groups: bool = False) -> bool:
        """Look at the next stretch of the log and at metrics; whether there was anything.

        Raises
        ------
        StoreError
            Log or outbox cannot be read or written. Nothing of the step counts; the next one makes it again.
        """
        end = self._log.next_position
        stop = min(end, self.position + STRETCH_ROWS)
        changes, step = Changes(stop), _Step(now_us, self._store.silences(now_us))
        try:
            touched = self._look_at_decisions(stop, step, changes)
            touched |= self._close_groups(step, changes, every=close_groups and stop == end)
            for key in touched:
                group = self._groups.get(key)
                changes.groups[key] = None if group is None else msgspec.json.encode(group).decode()
            if stop == end:
                self._look_at_metrics(step, changes)
            moved = stop > self.position
            if moved:
                changes.states |= {name: _text(one) for name, one in self._watched.items()}
            if moved or changes.messages or changes.states or changes.groups:
                self._store.commit(changes)
        except Exception:
            self._restore()
            raise
        self.position = stop
        return moved

    def _restore(self) -> None:
        """Metrics and groups as they are stored."""
        states = self._store.states()
        self._watched = {
            name: _watched(alert.on, states.get(name, ""))
            for name, alert in self._alerts.items()
            if isinstance(alert.on, OnMetric)
        }
        groups = [_group_decoder.decode(content) for content in self._store.groups()]
        self._groups = {(group.alert, group.label): group for group in groups}

    def _look_at_decisions(self, stop: int, step: _Step, changes: Changes) -> set[tuple[str, str]]:
        touched: set[tuple[str, str]] = set()
        by_endpoint: dict[str, list[Alert]] = {}
        for alert in self._alerts.values():
            if not is_slow(alert.on):
                by_endpoint.setdefault(alert.on.endpoint.name, []).append(alert)
        if not by_endpoint or stop <= self.position:
            return touched
        for batch in self._log.read_decisions(self.position, stop, endpoints=set(by_endpoint)):
            decisions = Decisions.from_bytes(batch.payload)
            for alert in by_endpoint[batch.endpoint]:
                first = max(self.position, self._since.get(alert.name, stop))
                fresh = np.flatnonzero((batch.positions >= first) & (batch.positions < stop))
                if len(fresh):
                    part = batch.positions[fresh], decisions.take(fresh)
                    touched |= self._take(alert, batch.endpoint, *part, step=step, changes=changes)
        return touched

    def _take(
        self,
        alert: Alert,
        endpoint: str,
        positions: IntArray,
        decisions: Decisions,
        *,
        step: _Step,
        changes: Changes,
    ) -> set[tuple[str, str]]:
        """Count or tell decisions; the groups that changed."""
        touched: set[tuple[str, str]] = set()
        if isinstance(alert.on, OnMetric):
            self._watched[alert.name].rolling.add(self._matcher.counted(alert.on, positions, decisions))
            return touched
        for told in self._matcher.told(alert, endpoint, positions, decisions):
            if alert.group_window:
                touched.add(self._into_group(alert, told, step.now_us))
            else:
                key = message_key(alert.name, alert.on.endpoint.source.name, told.event_id)
                people = [to for to in alert.to if not isinstance(to, AddTo)]
                if people:
                    body = body_of("alert.decision", told.time_us, told.data | told.because())
                    changes.messages += step.messages(
                        alert, "decision", key, body, [told.position], receivers=people
                    )
                for to in alert.to:
                    wanted = listing(alert, to, told, now_us=step.now_us) if isinstance(to, AddTo) else None
                    if wanted is not None:
                        body = body_of("alert.list", told.time_us, wanted)
                        changes.messages += step.messages(
                            alert, "list", key, body, [told.position], receivers=[to]
                        )
        return touched

    def _into_group(self, alert: Alert, told: Told, now_us: int) -> tuple[str, str]:
        label = json.dumps(list(told.group.values()))
        group = self._groups.get((alert.name, label))
        if group is None:
            key = message_key(alert.name, alert.on.endpoint.source.name, told.event_id, "group")
            due_us = now_us + to_us(alert.group_window)
            group = Group(key, alert.name, label, now_us, due_us, told.group)
            self._groups[alert.name, label] = group
        said = {name: value for name, value in told.data.items() if name not in {"alert", "endpoint"}}
        if group.has_room:
            said |= told.because()
        group.add(said, told.position)
        return alert.name, label

    def _close_groups(self, step: _Step, changes: Changes, *, every: bool) -> set[tuple[str, str]]:
        """Make messages of the groups whose time is over, and of those whose alert is gone; which they were."""
        closed = set()
        for key, group in list(self._groups.items()):
            alert = self._alerts.get(group.alert)
            if alert is not None and not every and step.now_us < group.due_us:
                continue
            closed.add(key)
            del self._groups[key]
            if alert is None:
                continue
            data = {"alert": alert.name, "endpoint": alert.on.endpoint.name, "count": group.count}
            data |= {"group": group.by} if group.by else {}
            body = body_of("alert.decisions", group.opened_us, {**data, "events": group.events})
            changes.messages += step.messages(alert, "decisions", group.key, body, group.positions)
        return closed

    def _look_at_metrics(self, step: _Step, changes: Changes) -> None:
        for name, watched in self._watched.items():
            alert = self._alerts[name]
            on = alert.on
            assert isinstance(on, OnMetric)
            before = watched.state
            value = self._value(name, on, watched.rolling, step.now_us)
            watched.state, kind = advance(
                before, _rule(alert, on), value, now_us=step.now_us, silenced=name in step.silences
            )
            if (watched.state.phase, watched.state.told) != (before.phase, before.told):
                changes.states[name] = _text(watched)
            if kind is not None:
                incident = before if kind == "resolved" else watched.state
                key = message_key(name, kind, incident.since_us, incident.told)
                body = body_of(
                    f"alert.{kind}", step.now_us, _metric_data(alert, on, incident.since_us, value)
                )
                changes.messages += step.messages(alert, kind, key, body, [], silenced=False)

    def _value(self, name: str, on: OnMetric, rolling: Rolling, now_us: int) -> float | None:
        if is_slow(on):
            return self._stored_metric(name)
        if on.metric != "lag_s" and rolling.total().decisions < on.at_least:
            return None
        return METRICS[on.metric](rolling, now_us)


class _Step:
    """One look: its time, and which alerts are silenced until when."""

    def __init__(self, now_us: int, silences: dict[str, int]) -> None:
        self.now_us, self.silences = now_us, silences

    def messages(
        self,
        alert: Alert,
        kind: str,
        key: str,
        body: bytes,
        positions: Sequence[int],
        *,
        silenced: bool | None = None,
        receivers: Sequence[Receiver] | None = None,
    ) -> Iterable[Outgoing]:
        """One message a receiver; by default to all of the alert's."""
        only_noted = alert.name in self.silences if silenced is None else silenced
        expires = self.now_us + to_us(alert.give_up_after)
        return [
            Outgoing(key, alert.name, to.name, kind, self.now_us, expires, body, tuple(positions), only_noted)
            for to in (alert.to if receivers is None else receivers)
        ]


def _rule(alert: Alert, on: OnMetric) -> Rule:
    return Rule(
        above=on.above,
        below=on.below,
        for_us=to_us(on.for_),
        repeat_us=None if alert.repeat is None else to_us(alert.repeat),
        recover=alert.recover,
    )


def _watched(on: OnDecision | OnMetric, text: str) -> Watched:
    """As it was left; the stretch starts anew where its length was changed, or what it is of."""
    assert isinstance(on, OnMetric)
    kept = _watched_decoder.decode(text) if text else Watched(State(), Rolling(0))
    window_us = to_us(on.window)
    same = kept.rolling.window_us == window_us and kept.of == on.of
    return kept if same else Watched(kept.state, Rolling(window_us), on.of)


def _text(watched: Watched) -> str:
    return msgspec.json.encode(watched).decode()


def _metric_data(alert: Alert, on: OnMetric, since_us: int, value: float | None) -> dict[str, object]:
    return {
        "alert": alert.name,
        "endpoint": on.endpoint.name,
        "metric": on.metric,
        **({} if on.of is None else {"of": dict([on.of])}),
        "value": value,
        "bound": on.bound,
        "side": "below" if on.above is None else "above",
        "since": from_us(since_us).isoformat(),
    }
