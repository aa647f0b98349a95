"""Lists of keys: members, history, and changes, which the next event sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from penstock.app.key_lists import (
    MOST,
    Change,
    Key,
    Wanted,
    checked_lines,
    key_kinds,
    key_names,
    keys_of,
    list_named,
    parsed_key,
)
from penstock.app.list_changes import note_changed
from penstock.app.list_index import ListIndex, list_index
from penstock.app.runtime import audit_log_of, open_reader
from penstock.core.errors import UncertainError
from penstock.serving.access import GuardedRoute
from penstock.serving.acting import Reason, actor_of
from penstock.serving.paging import Cursor, Limit, Page, cursor_of, place_of
from penstock.serving.platform import platform_of

router = APIRouter(tags=["lists"], route_class=GuardedRoute)

OneKey = Annotated[
    str | None,
    Query(
        description="Only this key; of lists with several join keys NAME=VALUE,NAME=VALUE.", max_length=1000
    ),
]

_CHANGE: Any = {
    "version": 18,
    "position": 104213,
    "key": {"card_id": "card-017"},
    "listed": True,
    "changed_at": "2026-11-22T10:15:00Z",
    "expires_at": None,
    "actor": "ann",
    "reason": "reported stolen",
}


class ListRow(BaseModel):
    """A list, and how far it has come."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "blocked_cards",
                "keys": ["card_id"],
                "kinds": {"card_id": "text"},
                "version": 18,
                "members": 11,
                "description": "cards reported stolen",
            }
        }
    )

    name: str
    keys: list[str] = Field(description="The join keys.")
    kinds: dict[str, str] = Field(description="Of each join key: text, int or bool.")
    version: int = Field(description="How often it was changed.")
    members: int = Field(description="How many keys are listed, expired ones among them.")
    description: str


class ChangeRow(BaseModel):
    """A change of a list."""

    model_config = ConfigDict(json_schema_extra={"example": _CHANGE})

    version: int = Field(description="The list's version from this change on.")
    position: int = Field(description="Its place in the log: events after it see it.")
    key: dict[str, Any] | None = Field(description="Null where the key was forgotten.")
    listed: bool
    changed_at: datetime | None
    expires_at: datetime | None = Field(description="Events of this time or later do not count as listed.")
    actor: str | None
    reason: str | None

    @classmethod
    def of(cls, change: Change, names: list[str]) -> ChangeRow:
        """The row of a change."""
        return cls.model_validate(change.to_dict(names))


class WantedChange(BaseModel):
    """A key to list, or to take off the list."""

    model_config = ConfigDict(extra="forbid")

    key: dict[str, Any] = Field(description="The join keys' values.")
    listed: bool = True
    expires_at: datetime | None = None


class ChangesRequest(BaseModel):
    """Changes of a list: all of them, or none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"changes": [{"key": {"card_id": "card-017"}}], "reason": "reported stolen"}
        },
    )

    changes: list[WantedChange] = Field(min_length=1, max_length=MOST)
    reason: Reason = Field(description="Kept with each change, and in the audit log.")


class Changed(BaseModel):
    """From where on in the log the changes count."""

    model_config = ConfigDict(json_schema_extra={"example": {"changed": 1, "position": 104213}})

    changed: int
    position: int = Field(description="Place of the last change: events after it see all of them.")


@router.get("/v1/lists", summary="List the lists of keys")
def lists(request: Request) -> Page[ListRow]:
    """The lists that rules, models and services use."""
    platform = platform_of(request)
    runtime = platform.runtime
    rows = []
    with open_reader(platform.root) as store:
        for name, one in runtime.project.lists.items():
            if name not in runtime.plan.sources:
                continue
            with list_index(platform.root, store, runtime.plan.sources[name]) as index:
                kinds = key_kinds(index.source)
                rows.append(
                    ListRow(
                        name=name,
                        keys=list(kinds),
                        kinds=kinds,
                        version=index.version,
                        members=index.count_members(),
                        description=one.description,
                    )
                )
    return Page(items=rows, next=None)


@router.get("/v1/lists/{name}", summary="List the members of a list")
def list_members(
    request: Request,
    name: str,
    *,
    key: OneKey = None,
    newest_first: Annotated[
        bool, Query(description="In the opposite order. A cursor is of one of the two.")
    ] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ChangeRow]:
    """The keys that are listed now, in the order in which they were; those that have expired are among them until they are removed."""
    with _index(request, name) as index:
        place = _place(cursor)
        after, before = (0, place) if newest_first else (place or 0, None)
        keys = _keys(request, index, key)
        found = index.members(
            keys=keys, after=after, before=before, limit=limit + 1, newest_first=newest_first
        )
        return _page(found, index, limit)


@router.get("/v1/lists/{name}/changes", summary="List the changes of a list, newest first")
def list_changes(
    request: Request, name: str, key: OneKey = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[ChangeRow]:
    """The whole history: who listed which key and why. Decisions name the version of a list that was in force."""
    with _index(request, name) as index:
        found = index.changes(keys=_keys(request, index, key), before=_place(cursor), limit=limit + 1)
        return _page(found, index, limit)


@contextmanager
def _index(request: Request, name: str) -> Iterator[ListIndex]:
    platform = platform_of(request)
    list_named(platform.runtime.project, platform.runtime.plan, name)
    with (
        open_reader(platform.root) as store,
        list_index(platform.root, store, platform.runtime.plan.sources[name]) as index,
    ):
        yield index


def _keys(request: Request, index: ListIndex, text: str | None) -> list[Key] | None:
    """The key that is asked for, as the log has it."""
    if text is None:
        return None
    platform = platform_of(request)
    key = parsed_key(text, key_kinds(index.source))
    return keys_of(platform.root, index.source, [key], now_us=platform.runtime.clock.now_us())


def _place(cursor: str | None) -> int | None:
    return None if cursor is None else int(place_of(cursor, int))


def _page(found: list[Change], index: ListIndex, limit: int) -> Page[ChangeRow]:
    names = key_names(index.source)
    following = cursor_of(found[limit - 1].version) if len(found) > limit else None
    return Page(items=[ChangeRow.of(one, names) for one in found[:limit]], next=following)


@router.post("/v1/lists/{name}/changes", summary="Change a list")
async def change_list(request: Request, name: str, body: ChangesRequest) -> Changed:
    """List keys, or take them off the list. When this returns the changes are durable, and the next event sees them.

    All of a request is taken, or nothing. Who asked and why stands in the list's history and in the audit log, there without the keys.
    """
    platform = platform_of(request)
    platform.check_ready()
    runtime = platform.runtime
    list_named(runtime.project, runtime.plan, name)
    actor, node = actor_of(request), runtime.plan.sources[name]
    wanted = [Wanted(one.key, one.listed, one.expires_at) for one in body.changes]
    now_us = runtime.clock.now_us()

    def checked() -> bytes:
        return checked_lines(platform.root, node, wanted, now_us=now_us, actor=actor, reason=body.reason)

    data = await run_in_threadpool(checked)
    answers = await platform.asker.ask(name, data, len(wanted), timeout_s=platform.settings.timeout_s)
    await run_in_threadpool(
        note_changed, platform.root, node, audit_log_of(platform.root, clock=runtime.clock)
    )
    refused = [one for one in answers if one.position is None]
    if refused:  # only where definitions changed in between
        raise UncertainError(
            f"list {name!r}: {len(refused)} of {len(answers)} changes were refused ({refused[0].detail}). Look at its history."
        )
    return Changed(changed=len(answers), position=max(one.position or 0 for one in answers))
