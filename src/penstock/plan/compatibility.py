"""What a change of a source's schema means for the events that were accepted before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.core.types import Field

Verdict = Literal["allowed", "if unneeded", "refused"]
_WIDER = {("Int32", "Int64"), ("Float32", "Float64")}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one field: what it is, and whether events of both schemas can be read side by side.

    `verdict` is ``"if unneeded"`` where that hangs on whether a view needs the field. `advice` says what to do instead.
    """

    field: str
    text: str
    verdict: Verdict
    advice: str = ""


def changes(old: Sequence[Field], new: Sequence[Field]) -> list[Change]:
    """What became of the fields of `old` in `new`, and which came; in that order. The order of fields means nothing.

    >>> from penstock.types import Field, Int32, Int64, String
    >>> for change in changes([Field("n", Int32)], [Field("n", Int64), Field("colour", String)]):
    ...     print(change.text, "-", change.verdict)
    n widened from Int32 to Int64 - allowed
    colour String added, required - refused
    """
    now = {field.name: field for field in new}
    before = {field.name for field in old}
    found: list[Change] = []
    for field in old:
        found += _changed(field, now[field.name]) if field.name in now else [_dropped(field)]
    return found + [_added(field) for field in new if field.name not in before]


def _dropped(field: Field) -> Change:
    advice = f"Keep {field.name}, optional=True if it is no longer sent, or take it out of these views first"
    return Change(field.name, f"{field.name} {field.dtype} dropped", "if unneeded", advice)


def _added(field: Field) -> Change:
    if field.optional:
        return Change(field.name, f"{field.name} {field.dtype} added, optional", "allowed")
    advice = f"Write Field({field.name!r}, {field.dtype}, optional=True): earlier events do not have it"
    return Change(field.name, f"{field.name} {field.dtype} added, required", "refused", advice)


def _changed(old: Field, new: Field) -> list[Change]:
    name = old.name
    found = []
    if old.dtype is not new.dtype:
        kinds = f"from {old.dtype} to {new.dtype}"
        if (old.dtype.name, new.dtype.name) in _WIDER:
            found.append(Change(name, f"{name} widened {kinds}", "allowed"))
        else:
            advice = f"Keep {name} {old.dtype}, and add what is new under another name, optional=True"
            found.append(Change(name, f"{name} changed {kinds}", "refused", advice))
    if old.optional and not new.optional:
        advice = f"Keep {name} optional=True: earlier events may lack it"
        found.append(Change(name, f"{name} was optional and is required", "refused", advice))
    if new.optional and not old.optional:
        advice = f"Keep {name} required, or change these views so that they do without it"
        found.append(Change(name, f"{name} was required and is optional", "if unneeded", advice))
    return found
