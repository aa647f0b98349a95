"""Lists of keys of a project: their members, their history, and changing them while it runs.

A change is a row of the list's source in the log, so that there is nothing to keep beside: members are the newest change of each key, and
the version is how many changes there were. The history is not chained by hashes: a forgotten key leaves it, its place and number stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import numpy as np

from penstock.app.runtime import card_tokens_of, plan_of
from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import from_us
from penstock.definitions.key_lists import (
    ACTOR,
    CHANGE_FIELDS,
    CHANGE_ID,
    CHANGED_AT,
    EXPIRES_AT,
    LISTED,
    REASON,
    KeyList,
)
from penstock.definitions.project import Project, load_project
from penstock.engine.contract import Contract, Decoded
from penstock.engine.lookup import ERASED, conformed
from penstock.engine.values import to_rows
from penstock.kernel.columns import Columns, IntArray

if TYPE_CHECKING:
    from penstock.core.records import LogBatch
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import Plan, SourceNode

MOST = 1000
"""Most changes of one request."""

_AT_ONCE = 2000
"""Changes that are decoded together."""

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change that somebody asks for: a key by its columns, whether it is to be listed, and until when.

    Asked twice with one `change_id` and all else alike, it is one change; by default each has an id of its own.
    """

    key: Mapping[str, Any]
    listed: bool = True
    expires_at: datetime | None = None
    change_id: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change as the log has it.

    Attributes
    ----------
    version, position
        Its number among the changes of the list, from 1 on, and its place in the log.
    key
        The join keys' values; None where the key was forgotten.
    asked
        Whether somebody asked for it through Penstock, in place of a table that was read.
    """

    version: int
    position: int
    key: Key | None
    listed: bool
    changed_at: datetime | None = None
    expires_at: datetime | None = None
    actor: str | None = None
    reason: str | None = None
    asked: bool = False

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """The change as JSON values; `names` are those of the join keys."""
        return {
            "version": self.version,
            "position": self.position,
            "key": None if self.key is None else dict(zip(names, self.key, strict=True)),
            "listed": self.listed,
            "changed_at": _iso(self.changed_at),
            "expires_at": _iso(self.expires_at),
            "actor": self.actor,
            "reason": self.reason,
        }


def list_named(project: Project, plan: Plan, name: str) -> KeyList:
    """The list; raises `NotFoundError` for one that is not defined, or that nothing uses."""
    if name not in project.lists:
        raise NotFoundError(
            f"list {name!r} does not exist; there are {', '.join(project.lists) or 'none'}. Choose one, or define it: "
            f"KeyList({name!r}, entity)."
        )
    if name not in plan.sources:
        raise NotFoundError(
            f"list {name!r}: no rule, model or service uses it, so nobody would see its members. Name it in a policy: "
            f'Rule("...", when={name}, action="...").'
        )
    return project.lists[name]


def check_no_list(source: SourceNode) -> None:
    """Raise `InputError` for the source of a list: its changes say who asked for them and why, and are noted in the audit log."""
    if source.is_list:
        raise InputError(
            f"source {source.name!r}: it holds the changes of a list, which are not sent as events. Send them to "
            f"/v1/lists/{source.name}/changes with a reason, or by `penstock lists`."
        )


def changes_of(store: LogReader, source: SourceNode) -> Iterator[Change]:
    """All changes of a list, in the order of the log."""
    version = 0
    for batch in store.read_log(sources={source.name}):
        for change in changes_from(batch, source, version):
            version = change.version
            yield change


def changes_from(batch: LogBatch, source: SourceNode, version: int) -> Iterator[Change]:
    """The changes of a batch of the log, of which `version` come before; some thousand at a time, since other threads wait."""
    whole = conformed(Columns.from_bytes(batch.payload), source)
    for first in range(0, whole.length, _AT_ONCE):
        rows = np.arange(first, min(first + _AT_ONCE, whole.length))
        yield from _changes(whole.take(rows), batch.positions[rows], source, version + first)


def _changes(columns: Columns, positions: IntArray, source: SourceNode, version: int) -> Iterator[Change]:
    gone = columns[ERASED].values.tolist() if ERASED in columns else [False] * columns.length  # type: ignore[union-attr]
    rows = to_rows(columns.select([field.name for field in source.fields]), source.fields)
    names = key_names(source)
    for number, (position, row, erased) in enumerate(
        zip(positions.tolist(), rows, gone, strict=True), version + 1
    ):
        if erased:
            yield Change(number, position, None, listed=False)
        else:
            yield Change(
                number,
                position,
                tuple(row[name] for name in names),
                listed=row[LISTED] is not False,
                changed_at=row[CHANGED_AT],
                expires_at=row[EXPIRES_AT],
                actor=row[ACTOR],
                reason=row[REASON],
                asked=bool(row[CHANGE_ID] and row[ACTOR] and row[REASON]),
            )


def key_names(source: SourceNode) -> list[str]:
    """The join keys of a list, by its source."""
    beside = {source.id_field, *(field.name for field in CHANGE_FIELDS)}
    return [field.name for field in source.fields if field.name not in beside]


def members(changes: Iterable[Change]) -> dict[Key, Change]:
    """The keys that are listed after `changes`, each with the change that listed it; those that expired are among them."""
    found: dict[Key, Change] = {}
    for change in changes:
        if change.key is None:
            continue
        found.pop(change.key, None)
        if change.listed:
            found[change.key] = change
    return found


def keys_of(root: Path, source: SourceNode, keys: Sequence[Mapping[str, Any]], *, now_us: int) -> list[Key]:
    """`keys` as the log writes them: checked, in NFC, with tokens for card numbers."""
    decoded = _checked(root, source, lines_of([Wanted(key) for key in keys], now_us=now_us))
    rows = to_rows(
        decoded.columns.select(key_names(source)), [f for f in source.fields if f.name in key_names(source)]
    )
    return [tuple(row.values()) for row in rows]


def lines_of(
    wanted: Sequence[Wanted], *, now_us: int, actor: str | None = None, reason: str | None = None
) -> bytes:
    """Changes as the events of a list's source: NDJSON."""
    at = from_us(now_us)
    rows = (
        {
            **one.key,
            CHANGED_AT: at,
            LISTED: one.listed,
            EXPIRES_AT: one.expires_at,
            ACTOR: actor,
            REASON: reason,
            CHANGE_ID: one.change_id or uuid4().hex,
        }
        for one in wanted
    )
    try:
        return b"\n".join(msgspec.json.encode(row) for row in rows)
    except UnicodeEncodeError as error:
        raise InputError(
            f"list: {error.object!r} holds half a character ({error.reason}); allowed is text that UTF-8 can write. Correct it."
        ) from error


def typed(text: str, kind: str) -> object:
    """A key's column as somebody writes it, as a value of its type; what it may be, the list's contract says.

    >>> typed("-5", "int"), typed("²", "int"), typed("true", "bool")
    (-5, '²', True)
    """
    if kind == "int" and text.isascii() and text.removeprefix("-").isdecimal():
        return int(text)
    if kind == "bool" and text in {"true", "false"}:
        return text == "true"
    return text


def parsed_key(text: str, kinds: Mapping[str, str]) -> dict[str, Any]:
    """A key as somebody writes it; of several columns each is named.

    >>> parsed_key("c7", {"card_id": "text"}), parsed_key("shop=4, city=x,y", {"shop": "int", "city": "text"})
    ({'card_id': 'c7'}, {'shop': 4, 'city': 'x,y'})

    Raises `InputError` where a column has no name.
    """
    if len(kinds) == 1:
        parts = dict.fromkeys(kinds, text.strip())
    else:
        parts = {}
        for one in text.split(","):
            column, equals, value = one.partition("=")
            if not equals and parts:  # a comma within a value
                parts[next(reversed(parts))] += f",{one}"
                continue
            if not equals:
                raise InputError(
                    f"lists: key {text!r}; this list has several join keys: allowed is NAME=VALUE,NAME=VALUE. Name each."
                )
            parts[column.strip()] = value.strip()
    return {column: typed(value, kinds.get(column, "")) for column, value in parts.items()}


def key_kinds(source: SourceNode) -> dict[str, str]:
    """The kind of each join key of a list: text, int or bool."""
    kinds = {field.name: field.dtype.kind for field in source.fields}
    return {name: kinds[name] for name in key_names(source)}


def checked_lines(
    root: Path, source: SourceNode, wanted: Sequence[Wanted], *, now_us: int, actor: str, reason: str
) -> bytes:
    """`lines_of`, all of which the list's contract allows: a request is taken whole, or not at all.

    Raises
    ------
    InputError
        A key has other columns than the list's, breaks the contract, or there are too many.
    """
    if not wanted or len(wanted) > MOST:
        raise InputError(
            f"list {source.name!r}: {len(wanted)} changes found; allowed are 1 to {MOST} at once. Send them in parts."
        )
    names = key_names(source)
    for one in wanted:
        if set(one.key) != set(names):
            raise InputError(
                f"list {source.name!r}: a key has the columns {', '.join(one.key) or '(none)'}; allowed are {', '.join(names)}. Give each."
            )
    data = lines_of(wanted, now_us=now_us, actor=actor, reason=reason)
    _checked(root, source, data)
    return data


def _checked(root: Path, source: SourceNode, data: bytes) -> Decoded:
    decoded = Contract(source, tokens=card_tokens_of(root)).decode_json(data)
    if decoded.refused:
        first = decoded.refused[0]
        raise InputError(
            f"list {source.name!r}: {len(decoded.refused)} of {decoded.received} keys cannot be listed, the first because of {first.reason} "
            f"({first.detail}). Nothing was changed; correct the key."
        )
    return decoded


def to_become(before: Mapping[Key, Change], keys: Sequence[Key], names: Sequence[str]) -> list[Wanted]:
    """The changes that make the members of a list exactly `keys`, for ever: those that are missing or expire, then those that are too many."""
    wanted = dict.fromkeys(keys)
    lasting = {key for key, change in before.items() if change.expires_at is None}
    added = [Wanted(dict(zip(names, key, strict=True))) for key in wanted if key not in lasting]
    gone = [Wanted(dict(zip(names, key, strict=True)), listed=False) for key in before if key not in wanted]
    return [*added, *gone]


def known(root: Path, name: str) -> tuple[KeyList, SourceNode]:
    """A list of the project in `root`, and its source in the plan."""
    project = load_project(root)
    plan = plan_of(project)
    return list_named(project, plan, name), plan.sources[name]


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
