"""Changing lists of a project, and noting in the audit log who did it and why: what happened, and all of it.

The log is the truth of what was changed, by whom and why. Notes are made behind it, with versions and place of the changes, so that none is of
something that never was. A process that ends in between leaves changes without a note: they are noted with the next change, or at the next
start, since the newest note says up to which version all are.
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.app.key_lists import checked_lines, list_named
from penstock.app.list_index import ListIndex, list_index
from penstock.app.runtime import audit_log_of, open_reader
from penstock.core.errors import PenstockError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.app.key_lists import Change, Wanted
    from penstock.app.runtime import Runtime
    from penstock.core.clock import Clock
    from penstock.engine.answers import Answer
    from penstock.plan.nodes import Plan, SourceNode
    from penstock.stores.audit_log import AuditLog, AuditRow

ACTION = "list.change"
"""What a note is called in the audit log; its subject is the list."""

PROBLEM = "lists"
_AT_ONCE = 10_000


class _MovedError(Exception):
    """Somebody else noted meanwhile."""


def change(
    runtime: Runtime, name: str, wanted: Sequence[Wanted], *, actor: str, reason: str, log: AuditLog
) -> list[Answer]:
    """Change a list of a project that is open here; the next event sees it."""
    list_named(runtime.project, runtime.plan, name)
    now_us = runtime.clock.now_us()
    node = runtime.plan.sources[name]
    data = checked_lines(runtime.project.root, node, wanted, now_us=now_us, actor=actor, reason=reason)
    answers = runtime.ingest(name, data)
    note_changed(runtime.project.root, node, log)
    return answers


def note_changed(root: Path, source: SourceNode, log: AuditLog) -> None:
    """Note the changes of a list that were just made, and whatever was not noted yet.

    Raises
    ------
    StoreError
        The audit log cannot be written: the changes hold, and are noted later.
    """
    try:
        with open_reader(root) as store, list_index(root, store, source) as index:
            note(log, index)
    except StoreError as error:
        raise StoreError(
            f"list {source.name!r}: it was changed, and the audit log could not note it ({error}). It will, with the next change or at the "
            "next start; do not send the change again."
        ) from error


def note(log: AuditLog, index: ListIndex) -> int:
    """Note what somebody asked for and no note says yet, a note for each who and why; how many notes.

    Keys are not in the notes, but in the list's own history, from which they can be forgotten.
    """
    name, notes = index.source.name, 0
    while True:
        newest = log.newest(ACTION, name)
        some = index.asked_after(_noted(log, newest, index), limit=_AT_ONCE)
        if not some:
            return notes
        first = some[0]
        alike = list(takewhile(lambda one: (one.actor, one.reason) == (first.actor, first.reason), some))  # noqa: B023
        sequence = None if newest is None else newest.sequence

        def detail(
            row: AuditRow | None, alike: list[Change] = alike, seen: int | None = sequence
        ) -> dict[str, Any]:
            if (None if row is None else row.sequence) != seen:
                raise _MovedError
            return _said(alike)

        try:
            log.append(ACTION, name, detail, actor=str(first.actor), reason=str(first.reason))
            notes += 1
        except _MovedError:
            continue


def _said(changes: Sequence[Change]) -> dict[str, Any]:
    added = sum(one.listed for one in changes)
    return {
        "added": added,
        "removed": len(changes) - added,
        "versions": [changes[0].version, changes[-1].version],
        "position": changes[-1].position,
        "changed_at": _moment(changes[-1]),
    }


def _moment(change: Change) -> str | None:
    return None if change.changed_at is None else change.changed_at.isoformat()


def _noted(log: AuditLog, newest: AuditRow | None, index: ListIndex) -> int:
    """Up to which version all is noted.

    A store that was put back from a backup may be older than its audit log: notes of changes that this log does not have say nothing.
    """
    if newest is None:
        return 0
    if (found := _noted_by(newest, index)) is not None:
        return found
    older = log.rows(action=ACTION, subject=index.source.name)[-2::-1]
    return next((found for row in older if (found := _noted_by(row, index)) is not None), 0)


def _noted_by(row: AuditRow, index: ListIndex) -> int | None:
    """The last version of a note, if its last change is the one in this log."""
    said = row.values()
    if "versions" not in said:  # an older Penstock noted before it changed
        return index.version_at(row.time_us)
    version = int(said["versions"][1])
    change = next(iter(index.changes(before=version + 1, limit=1)), None)
    if change is None or (change.version, change.position) != (version, said["position"]):
        return None
    forgotten = change.key is None
    return version if forgotten or _moment(change) == said["changed_at"] else None


def note_what_is_left(root: Path, plan: Plan, *, clock: Clock) -> str | None:
    """Note the changes of all lists that a process made which ended before it could; what went wrong, if anything did."""
    log = audit_log_of(root, clock=clock)
    try:
        for source in plan.sources.values():
            if source.is_list:
                with open_reader(root) as store, list_index(root, store, source) as index:
                    note(log, index)
    except PenstockError as error:
        return str(error)
    return None
