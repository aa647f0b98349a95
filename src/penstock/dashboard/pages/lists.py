"""Lists of keys: who is listed, who listed them and why; put keys on a list or take them off."""

from __future__ import annotations

from functools import partial
from typing import Any

from penstock.app.key_lists import MOST, parsed_key
from penstock.core.errors import InputError, NotFoundError
from penstock.dashboard.client import query
from penstock.dashboard.confirm import Confirm
from penstock.dashboard.elements import (
    Column,
    blank,
    button,
    card,
    cell,
    el,
    field,
    link,
    row,
    set_props,
    stack,
    table,
    tabs,
)
from penstock.dashboard.frame import headline
from penstock.dashboard.texts import moment, whole
from penstock.dashboard.view import View, part

List = dict[str, Any]
Change = dict[str, Any]
SHOWN = 50
LISTS = (
    Column("List"),
    Column("Keys of"),
    Column("Members", "number"),
    Column("Version", "number"),
    Column("What"),
)
MEMBERS = (
    Column("Key"),
    Column("Listed", "time"),
    Column("Until", "time"),
    Column("By"),
    Column("Why"),
    Column("Version", "number"),
)
CHANGES = (
    Column("Version", "number"),
    Column("Key"),
    Column("What", "chip"),
    Column("When", "time"),
    *MEMBERS[2:5],
)
VIEWS = (("members", "Members"), ("history", "History"))


async def page(view: View) -> None:
    """All lists that something uses."""
    with headline(
        "Lists",
        "Keys that rules treat otherwise, whatever their score. A change counts from the next event on.",
    ):
        pass
    if not (await view.get("/v1/lists"))["items"]:
        blank(
            "No list is used",
            "Define one, and name it in a rule of a policy; docs/rules.md shows how.",
            'KeyList("blocked_cards", card)',
        )
        return
    with card(classes="card flush"):
        shown = table("Lists", LISTS)
    await view.watch(
        "/v1/lists", 3.0, lambda found: set_props(shown, rows=[_list_row(one) for one in found["items"]])
    )


async def members(view: View) -> None:
    """One list: its members, or its history."""
    name, show = view.path("name"), view.query("show", "members")
    found = next((one for one in (await view.get("/v1/lists"))["items"] if one["name"] == name), None)
    if found is None:
        raise NotFoundError(
            f"list {name[:60]!r} does not exist, or nothing uses it. Choose one of the page Lists."
        )
    with headline(name, found["description"] or _keys_of(found), back=("Lists", "/lists")):
        button("Take keys off", lambda: _ask(view, found, listed=False).show(), "danger")
        button("Put keys on", lambda: _ask(view, found, listed=True).show(), "main")
    here = f"/lists/{part(name)}"
    tabs("Parts of the list", VIEWS, show, lambda value: query(here, show=value))
    await _Keys(view, found, show=show).start()


class _Keys:
    """Members or changes of a list, newest first: a page of them, or those of one key."""

    def __init__(self, view: View, found: List, *, show: str) -> None:
        self._view, self._list, self._show = view, found, show
        self._key, self._cursor = view.query("key"), view.query("cursor")
        with stack("filters") as filters:
            filters.props["style"] = "margin-top:16px;max-width:360px"
            hint = "exactly" if len(found["keys"]) == 1 else f"{found['keys'][0]}=…"
            field("Key", value=self._key, placeholder=hint, changed=self._find)
        with card(classes="card flush"):
            empty = "No such key." if self._key else "Nobody yet."
            picked = None if show == "history" else self._picked
            self._table = table(
                "History" if show == "history" else "Members",
                CHANGES if show == "history" else MEMBERS,
                empty=empty,
                picked=picked,
            )
        self._more = stack("row")
        self._more.props["style"] = "margin-top:12px"

    async def start(self) -> None:
        """Show what there is, and what comes."""
        base = f"/v1/lists/{part(self._list['name'])}"
        path = f"{base}/changes" if self._show == "history" else base
        newest = None if self._show == "history" else "true"
        asked = query(path, key=self._key, cursor=self._cursor, newest_first=newest, limit=SHOWN)
        await self._view.watch(asked, 2.0, self._shown)

    async def _find(self, value: Any) -> None:
        self._key, self._cursor = str(value or "").strip(), ""
        self._view.leave()
        await self.start()

    def _shown(self, found: dict[str, Any]) -> None:
        made = _change_row if self._show == "history" else _member_row
        set_props(self._table, rows=[made(one) for one in found["items"]])
        self._more.clear()
        here = partial(query, f"/lists/{part(self._list['name'])}", show=self._show, key=self._key)
        with self._more:
            if self._cursor:
                link("Newest", here(), "act small")
            if found["next"] is not None:
                link(f"The next {SHOWN}", here(cursor=found["next"]), "act small")
            el("span", "hatch", "Newest first. Times are UTC.")

    def _picked(self, text: str) -> None:
        _ask(self._view, self._list, listed=False, keys=text).show()


def _ask(view: View, found: List, *, listed: bool, keys: str = "") -> Confirm:
    """Ask for keys and a reason, and change the list."""

    async def do(reason: str, said: dict[str, Any]) -> None:
        lines = [line.strip() for line in str(said["keys"]).splitlines() if line.strip()]
        if not 1 <= len(lines) <= MOST:
            raise InputError(f"{whole(len(lines))} keys found; allowed are 1 to {whole(MOST)}, one a line.")
        until = str(said.get("until") or "").strip() or None
        changes = [
            {"key": parsed_key(line, found["kinds"]), "listed": listed, "expires_at": until} for line in lines
        ]
        body = {"changes": changes, "reason": reason}
        done = await view.send("POST", f"/v1/lists/{part(found['name'])}/changes", body)
        view.say(
            f"{whole(done['changed'])} {'put on' if listed else 'taken off'} {found['name']}; the next event sees it."
        )

    named = "" if len(found["keys"]) == 1 else ": " + ",".join(f"{name}=…" for name in found["keys"])
    more: list[tuple[str, dict[str, Any]]] = [
        ("keys", {"label": f"Keys, one a line{named}", "kind": "long", "value": keys})
    ]
    if listed:
        until = {
            "label": "Until",
            "placeholder": "2026-12-31T00:00:00Z",
            "hint": "Empty: until they are taken off.",
        }
        more.append(("until", until))
    title = f"Put keys on {found['name']}?" if listed else f"Take keys off {found['name']}?"
    text = "What was decided stays as it is; the next event sees the change."
    verb = "Put on" if listed else "Take off"
    return Confirm(view, title, text, do, verb=verb, more=more, danger=not listed)


def _keys_of(one: List) -> str:
    return f"keys of {', '.join(one['keys'])}"


def _list_row(one: List) -> dict[str, Any]:
    cells = [
        one["name"],
        cell(", ".join(one["keys"]), tone="soft"),
        whole(one["members"]),
        whole(one["version"]),
        cell(one["description"], tone="soft"),
    ]
    return row(one["name"], cells, href=f"/lists/{part(one['name'])}")


def _key_text(one: Change) -> str:
    """A key as it is typed."""
    key = one["key"]
    if key is None:
        return "forgotten"
    if len(key) == 1:
        return _written(*key.values())
    return ",".join(f"{name}={_written(value)}" for name, value in key.items())


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _about(one: Change) -> list[Any]:
    until = "" if one["expires_at"] is None else moment(one["expires_at"])
    return [moment(one["changed_at"]), until, one["actor"] or "a table", one["reason"] or ""]


def _member_row(one: Change) -> dict[str, Any]:
    text = _key_text(one)
    return row(text, [text, *_about(one), whole(one["version"])], pick=True)


def _change_row(one: Change) -> dict[str, Any]:
    what = cell("put on", tone="warn") if one["listed"] else cell("taken off", tone="plain")
    if one["key"] is None:
        what = cell("forgotten", tone="plain")
    about = ["", "", "", ""] if one["key"] is None else _about(one)
    return row(one["version"], [whole(one["version"]), _key_text(one), what, *about])
