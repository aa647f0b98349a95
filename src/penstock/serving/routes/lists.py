"""Lists of keys: members, history, and changes, which the next event sees."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from penstock.app.key_lists import (
    MOST,
    Change,
    Wanted,
    changes_of,
    checked_lines,
    key_names,
    keys_of,
    list_named,
    members,
    note,
    typed,
)
from penstock.app.runtime import audit_log_of, open_reader
from penstock.core.errors import UncertainError
from penstock.engine.list_versions import COUNTER
from penstock.serving.access import GuardedRoute
from penstock.serving.acting import Reason, actor_of
from penstock.serving.paging import Cursor, Limit, Page, part
from penstock.serving.platform import platform_of

router = APIRouter(tags=["lists"], route_class=GuardedRoute)

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
                "version": 18,
                "description": "cards reported stolen",
            }
        }
    )

    name: str
    keys: list[str] = Field(description="The join keys.")
    version: int = Field(description="How often it was changed.")
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
    runtime = platform_of(request).runtime
    with open_reader(runtime.project.root) as store:
        counters = store.counters()
    rows = [
        ListRow(
            name=name,
            keys=list(one.entity.key_names),
            version=counters.get(f"{COUNTER}{name}", 0),
            description=one.description,
        )
        for name, one in runtime.project.lists.items()
        if name in runtime.plan.sources
    ]
    return Page(items=rows, next=None)


@router.get("/v1/lists/{name}", summary="List the members of a list")
def list_members(
    request: Request,
    name: str,
    key: Annotated[
        str | None, Query(description="Only this key; of lists with one join key.", max_length=1000)
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ChangeRow]:
    """The keys that are listed now, in the order in which they were; those that have expired are among them until they are removed."""
    platform = platform_of(request)
    list_named(platform.runtime.project, platform.runtime.plan, name)
    node = platform.runtime.plan.sources[name]
    names = key_names(node)
    with open_reader(platform.root) as store:
        found = members(changes_of(store, node))
    if key is not None and len(names) == 1:
        value = typed(key, next(f.dtype.kind for f in node.fields if f.name == names[0]))
        (wanted,) = keys_of(platform.root, node, [{names[0]: value}], now_us=platform.runtime.clock.now_us())
        found = {one: change for one, change in found.items() if one == wanted}
    rows, following = part(found.values(), lambda one: one.version, cursor=cursor, limit=limit)
    return Page(items=[ChangeRow.of(one, names) for one in rows], next=following)


@router.get("/v1/lists/{name}/changes", summary="List the changes of a list, newest first")
def list_changes(request: Request, name: str, limit: Limit = 100, cursor: Cursor = None) -> Page[ChangeRow]:
    """The whole history: who listed which key and why. Decisions name the version of a list that was in force."""
    platform = platform_of(request)
    list_named(platform.runtime.project, platform.runtime.plan, name)
    node = platform.runtime.plan.sources[name]
    with open_reader(platform.root) as store:
        changes = list(changes_of(store, node))[::-1]
    rows, following = part(changes, lambda one: one.version, cursor=cursor, limit=limit, descending=True)
    return Page(items=[ChangeRow.of(one, key_names(node)) for one in rows], next=following)


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

    def noted() -> bytes:
        data = checked_lines(platform.root, node, wanted, now_us=now_us, actor=actor, reason=body.reason)
        log = audit_log_of(platform.root, clock=runtime.clock)
        note(log, name, wanted, actor=actor, reason=body.reason)
        return data

    data = await run_in_threadpool(noted)
    answers = await platform.asker.ask(name, data, len(wanted), timeout_s=platform.settings.timeout_s)
    refused = [one for one in answers if one.position is None]
    if refused:  # only where definitions changed in between
        raise UncertainError(
            f"list {name!r}: {len(refused)} of {len(answers)} changes were refused ({refused[0].detail}). Look at its history."
        )
    return Changed(changed=len(answers), position=max(one.position or 0 for one in answers))
