"""Alerts that put the key of a decided event on a list: what the outbox says, as a change of the list.

The change is made of the message alone, byte by byte the same however often it is tried: so the log, which knows rows that are equal, takes it
once, whatever was killed in between.
"""

from __future__ import annotations

import json
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.app.key_lists import Wanted, checked_lines, list_named
from penstock.app.list_changes import note_changed
from penstock.app.runtime import audit_log_of
from penstock.core.errors import PenstockError
from penstock.core.time import from_us, to_us
from penstock.monitoring.alert_sinks import LONGEST_ERROR, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.app.alert_matching import Told
    from penstock.app.runtime import Runtime
    from penstock.definitions.alert_lists import AddTo
    from penstock.definitions.alerts import Alert

PATIENCE_S = 10.0
"""So long the engine may take; then the attempt has failed, and is made again."""


def listing(alert: Alert, to: AddTo, told: Told, *, now_us: int) -> dict[str, Any] | None:
    """What the outbox keeps of a key that is to be listed; None where the event has none."""
    key = told.keys[to.name]
    if any(value is None for value in key.values()):
        return None
    expires_at = None if to.expires is None else from_us(told.time_us + to_us(to.expires)).isoformat()
    return {
        "alert": alert.name,
        "endpoint": alert.on.endpoint.name,
        "event_id": told.event_id,
        "action": told.data["action"],
        "list": to.keys.name,
        "key": key,
        "changed_at": from_us(now_us).isoformat(),
        "expires_at": expires_at,
        "reason": to.reason or f"{told.data['action']} of event {told.event_id}",
    }


class ListChanger:
    """Makes the changes that messages ask for, through the engine of an open project."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def send(self, key: str, body: bytes) -> Outcome:
        """Make the change of a message; delivered when it is durable, or was before."""
        data = json.loads(body)["data"]
        if "list" not in data:  # a test
            return Outcome(delivered=True)
        try:
            return self._change(key, data)
        except PenstockError as error:
            return Outcome(delivered=False, error=str(error)[:LONGEST_ERROR])

    def _change(self, key: str, data: Mapping[str, Any]) -> Outcome:
        runtime, name = self._runtime, data["list"]
        list_named(runtime.project, runtime.plan, name)
        expires = data["expires_at"]
        wanted = Wanted(
            data["key"],
            expires_at=None if expires is None else datetime.fromisoformat(expires),
            change_id=key,
        )
        said = {"actor": data["alert"], "reason": data["reason"]}
        changed_us = to_us(datetime.fromisoformat(data["changed_at"]))
        root, node = runtime.project.root, runtime.plan.sources[name]
        lines = checked_lines(root, node, [wanted], now_us=changed_us, **said)
        asked = runtime.list_asks.put(name, lines)
        try:
            (answer,) = asked.result(PATIENCE_S)
        except FutureTimeoutError:
            asked.cancel()
            return Outcome(delivered=False, error=f"the engine did not take it within {PATIENCE_S:g} s")
        if answer.position is None:
            return Outcome(
                delivered=False, error=f"refused: {answer.reason} ({answer.detail})"[:LONGEST_ERROR]
            )
        note_changed(root, node, audit_log_of(root, clock=runtime.clock))
        return Outcome(delivered=True)
