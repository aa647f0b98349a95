"""The journal of retraining: every attempt, why it began, what became of it. Rows of the project's audit log.

An attempt is two rows, one when it begins and one when it ended. One without the second was killed, or is under way: whoever
trains holds the lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from penstock.core.errors import StoreError
from penstock.models.triggers import State
from penstock.stores.lock import WriterLock

if TYPE_CHECKING:
    from penstock.stores.audit_log import AuditLog, AuditRow

ACTION = "retraining"
"""What these rows are called in the audit log; the subject is the model."""
ACTOR = "retraining"
Outcome = Literal["promoted", "staged", "shadowing", "kept", "failed", "archived", "overtaken"]


@dataclass(slots=True)
class Attempt:
    """One attempt to train a model again.

    Attributes
    ----------
    number
        The sequence number of its first row.
    position
        The log's length when it began: labels up to there are used once it has ended.
    outcome
        ``promoted``, ``staged``, ``shadowing`` (judged again later), ``kept`` (its gate did not pass), ``archived`` (not better in the
        shadow), ``overtaken`` (somebody else changed stages meanwhile), ``failed``; empty: killed, or under way.
    detail
        ``version``, ``verdict``, ``gate`` (the report's digest), ``seconds``, ``error``, ``since_us``, as far as there are.
    """

    number: int
    model: str
    trigger: str
    why: str
    started_us: int
    position: int
    ended_us: int | None = None
    outcome: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


class Journal:
    """The attempts of one model.

    Parameters
    ----------
    audit, model
        Where rows are kept, and the model's name.
    """

    def __init__(self, audit: AuditLog, model: str) -> None:
        self._audit, self._model = audit, model

    def watch(self, position: int) -> None:
        """Note where counting begins, unless it has begun."""
        if not self._rows():
            self._append({"event": "watch", "position": position}, f"watched from log position {position}")

    def begin(self, trigger: str, why: str, position: int) -> Attempt:
        """Note that an attempt begins."""
        row = self._append({"event": "begin", "trigger": trigger, "position": position}, why)
        return Attempt(row.sequence, self._model, trigger, why, row.time_us, position)

    def end(self, attempt: Attempt, outcome: Outcome, detail: dict[str, Any], *, why: str) -> Attempt:
        """Note what became of an attempt; of one that was in the shadow a second time."""
        values = {"event": "end", "attempt": attempt.number, "outcome": outcome, **detail}
        row = self._append(values, why)
        attempt.ended_us, attempt.outcome = row.time_us, outcome
        attempt.detail |= detail
        return attempt

    def attempts(self) -> list[Attempt]:
        """All attempts, oldest first."""
        found: dict[int, Attempt] = {}
        for row in self._rows():
            values = row.values()
            if values["event"] == "begin":
                found[row.sequence] = Attempt(
                    row.sequence, self._model, values["trigger"], row.reason, row.time_us, values["position"]
                )
            elif values["event"] == "end":
                attempt = found[values.pop("attempt")]
                attempt.ended_us, attempt.outcome = row.time_us, values.pop("outcome")
                attempt.detail |= {name: value for name, value in values.items() if name != "event"}
        return list(found.values())

    def state(self) -> State | None:
        """What earlier attempts leave behind; None where nothing was watched yet."""
        rows, attempts = self._rows(), self.attempts()
        if not rows:
            return None
        first = rows[0].values().get("position", 0) if rows[0].values()["event"] == "watch" else 0
        ended = [attempt for attempt in attempts if attempt.outcome]
        scheduled = [attempt.started_us for attempt in ended if attempt.trigger == "schedule"]
        return State(
            position=max([first, *(attempt.position for attempt in ended)]),
            started_us=max((attempt.started_us for attempt in attempts), default=None),
            since_us=max([rows[0].time_us, *scheduled]),
        )

    def shadowing(self) -> Attempt | None:
        """The attempt whose version is in the shadow, if there is one."""
        return next((one for one in reversed(self.attempts()) if one.outcome == "shadowing"), None)

    def _append(self, values: dict[str, Any], why: str) -> AuditRow:
        return self._audit.append(ACTION, self._model, values, actor=ACTOR, reason=why)

    def _rows(self) -> list[AuditRow]:
        return self._audit.rows(action=ACTION, subject=self._model)


@contextmanager
def alone(state: Path) -> Iterator[bool]:
    """Hold the right to train in a project, whose state folder is `state`; False where another process has it."""
    lock = WriterLock(state / "retraining.lock", what="retraining")
    try:
        lock.acquire()
    except StoreError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
