"""What differs between two plans, as descriptions: what `penstock plan` shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.plan.describe import Description
from penstock.plan.watching import KINDS as WATCHING

Action = Literal["add", "change", "remove"]
KINDS = ("source", "view", "service", "endpoint", *WATCHING)
_BY_NAME = {"fields", "aggregates", "keys", "outputs", "attributes"}
_UNSEEN = {"pruned", "fingerprint", "lanes", "windows", "reads", "terms"}
"""What follows from the rest: nobody has to be told."""

_LATER = ("terms",)
"""What descriptions of an older Penstock have not: that it is there now is no change."""


@dataclass(frozen=True, slots=True)
class Change:
    """One object that is new, gone, or different.

    Attributes
    ----------
    kind
        One of `KINDS`; a guard has its endpoint's name.
    details
        What is different, a line each.
    """

    action: Action
    kind: str
    name: str
    details: tuple[str, ...] = ()


def differences(old: Description | None, new: Description) -> tuple[Change, ...]:
    """What changes from `old` (None: nothing was there) to `new`, sources first.

    >>> nothing = {"sources": [], "views": [], "services": [], "endpoints": []}
    >>> differences(nothing, {**nothing, "views": [{"name": "spending"}]})
    (Change(action='add', kind='view', name='spending', details=()),)
    """
    found: list[Change] = []
    for kind in KINDS:
        before = _by_name([] if old is None else old.get(f"{kind}s", []))
        after = _by_name(new.get(f"{kind}s", []))
        found += [Change("add", kind, name) for name in after if name not in before]
        for name in after:
            if name in before and _comparable(before[name], after[name]) != after[name]:
                found.append(Change("change", kind, name, tuple(_details(before[name], after[name]))))
        found += [Change("remove", kind, name) for name in before if name not in after]
    return tuple(found)


def _by_name(items: Sequence[Description]) -> dict[str, Description]:
    return {item["name"]: item for item in items}


def _comparable(old: Description, new: Description) -> Description:
    return old | {key: new[key] for key in _LATER if key in new and key not in old}


def _details(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    lines: list[str] = []
    for key in new:
        before, after = old.get(key), new[key]
        if before == after or key in _UNSEEN:
            continue
        if key in _BY_NAME:
            lines += _named(key, before, after)
        elif isinstance(before, list | dict) or isinstance(after, list | dict):
            lines.append(f"{_words(key)} changed")
        else:
            lines.append(f"{_words(key)}: {_shown(before)} → {_shown(after)}")
    if not lines and old.get("terms") != new.get("terms"):
        return ["costs of its policy changed"]
    return lines or ["its meaning changed"]


def _named(key: str, before: object, after: object) -> list[str]:
    """What differs between two lists of named things."""
    old = _by_name(before if isinstance(before, list) else [])
    new = _by_name(after if isinstance(after, list) else [])
    one = _words(key).removesuffix("s")
    lines = [f"+ {one} {name}" for name in new if name not in old]
    for name in new:
        if name in old and old[name] != new[name]:
            parts = [
                f"{_words(k)} {_shown(old[name].get(k))} → {_shown(v)}"
                for k, v in new[name].items()
                if old[name].get(k) != v
            ]
            lines.append(f"~ {one} {name}: {', '.join(parts)}")
    lines += [f"- {one} {name}" for name in old if name not in new]
    if not lines:
        lines.append(f"order of {_words(key)}")
    return lines


def _words(key: str) -> str:
    return {"aggregates": "features", "outputs": "features", "code": "function"}.get(
        key, key.replace("_", " ")
    )


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
