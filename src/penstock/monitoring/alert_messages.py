"""What alerts say: JSON for machines, a line for people. Pure.

A message has a key that is the same however often it is sent: what it is about decides it, not when.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from penstock.core.time import from_us

FIRST_FEW = 5
"""So many decisions of a group are sent with it."""


class Group(msgspec.Struct):
    """Decisions that will be one message: how many there were, and the first few."""

    key: str
    alert: str
    label: str
    opened_us: int
    due_us: int
    by: dict[str, Any]
    count: int = 0
    events: list[dict[str, Any]] = []
    positions: list[int] = []

    @property
    def has_room(self) -> bool:
        """Whether the next decision is one of those that are sent."""
        return len(self.events) < FIRST_FEW

    def add(self, event: dict[str, Any], position: int) -> None:
        """Count a decision."""
        self.count += 1
        if self.has_room:
            self.events.append(event)
            self.positions.append(position)


def message_key(*about: object) -> str:
    """The key of what a message is about: no dots, nothing of the event that could be read.

    >>> message_key("ban_card", "payments", "p17") == message_key("ban_card", "payments", "p17")
    True
    >>> message_key("ban_card", "payments", "p17")[:4]
    'msg_'
    """
    digest = hashlib.sha256(json.dumps(about, ensure_ascii=True).encode()).hexdigest()
    return f"msg_{digest[:32]}"


def body_of(kind: str, time_us: int, data: dict[str, Any]) -> bytes:
    """A message as it is sent and signed.

    >>> body_of("alert.test", 0, {"alert": "ban_card"})
    b'{"type":"alert.test","timestamp":"1970-01-01T00:00:00+00:00","data":{"alert":"ban_card"}}'
    """
    content = {"type": kind, "timestamp": from_us(time_us).isoformat(), "data": data}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def text_of(body: bytes) -> tuple[str, str]:
    r"""Title and text of a message for people.

    >>> text_of(
    ...     body_of("alert.decision", 0, {"alert": "ban", "endpoint": "pay", "action": "block", "score": 0.5})
    ... )
    ('ban: block', 'endpoint pay, action block, score 0.5')
    >>> why = [{"contribution": 1.25, "text": "amount is far above usual: 900, usually 10 to 30"}]
    >>> text_of(body_of("alert.decision", 0, {"alert": "ban", "action": "block", "reasons": why}))[1]
    'action block\n+1.25 amount is far above usual: 900, usually 10 to 30'
    """
    content = json.loads(body)
    kind, data = content["type"], dict(content["data"])
    alert = data.pop("alert")
    what = data.get("action") or kind.removeprefix("alert.")
    if "count" in data:
        what = f"{data['count']:,} decisions"
    events, reasons = data.pop("events", []), data.pop("reasons", [])
    flat = {**data, **data.pop("include", {}), **data.pop("group", {})}
    lines = [_line({name: flat[name] for name in flat if name not in {"include", "group"}}), *_why(reasons)]
    for event in events:
        why = event.pop("reasons", [])
        lines += [_line({**event, **event.pop("include", {})}), *_why(why)]
    return f"{alert}: {what}", "\n".join(lines)


def _why(reasons: list[dict[str, Any]]) -> list[str]:
    """A line a reason: how much it raised or lowered the score, and what it is."""
    return [f"{one['contribution']:+.2f} {one['text']}" for one in reasons]


def _line(values: dict[str, Any]) -> str:
    shown = {name: value for name, value in values.items() if value is not None and name != "include"}
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in shown.items()
    )
