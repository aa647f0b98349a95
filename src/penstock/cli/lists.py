"""``penstock lists``: keys to block or to allow, while the project runs."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import (
    Actor,
    AsJson,
    Project,
    actor_name,
    duration_of,
    project_root,
    served_at,
    without_cards,
)
from penstock.cli.output import hint, number, print_json, print_table, say
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.app.key_lists import Change, Wanted
    from penstock.app.list_index import ListIndex
    from penstock.plan.nodes import SourceNode

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Keys to block or to allow, while the project runs."
)

Name = Annotated[str, typer.Argument(metavar="LIST", help="The list's name.")]
Keys = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY...",
        help="Keys; of a list with several join keys NAME=VALUE,NAME=VALUE.",
        show_default=False,
    ),
]
Why = Annotated[str, typer.Option("--reason", help="Why; kept with each change.", callback=without_cards)]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires", help="For how long (30d, 12h), or until when (2026-01-31).", show_default=False
    ),
]


@commands.command("list")
def list_lists(project: Project = None, as_json: AsJson = False) -> None:
    """List the lists of keys, with their versions. Works beside a running engine."""
    from penstock.app.runtime import open_reader, plan_of
    from penstock.definitions.project import load_project
    from penstock.engine.list_versions import COUNTER

    root = project_root(project)
    loaded = load_project(root)
    used = plan_of(loaded).sources
    with open_reader(root) as store:
        counters = store.counters()
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "keys": list(one.entity.key_names),
            "version": counters.get(f"{COUNTER}{name}", 0),
            "used": name in used,
            "description": one.description,
        }
        for name, one in loaded.lists.items()
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        [
            (
                r["name"],
                ", ".join(r["keys"]),
                number(r["version"]),
                r["description"] if r["used"] else "unused",
            )
            for r in rows
        ],
        head=("list", "keys", "version", "what"),
        right=(2,),
    )
    hint("penstock lists add LIST KEY --reason WHY" if rows else 'KeyList("blocked_cards", card)')


@commands.command("show")
def show(
    name: Name,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Only these.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print the keys that are listed, the newest first. Works beside a running engine."""
    with _index(project, name) as (root, index):
        wanted = _keys(root, index.source, keys) if keys else None
        found = index.members(keys=wanted, limit=limit, newest_first=True)
        _print(found, index, total=index.count_members(wanted), as_json=as_json)


@commands.command("history")
def history(
    name: Name,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="Only of these.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print who changed a list, when and why, the newest change first. Works beside a running engine."""
    with _index(project, name) as (root, index):
        wanted = _keys(root, index.source, keys) if keys else None
        found = index.changes(keys=wanted, limit=limit)
        _print(found, index, total=index.count_changes(wanted), as_json=as_json)


@commands.command("add")
def add(
    name: Name,
    keys: Keys,
    reason: Why,
    expires: Expires = None,
    actor: Actor = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Put keys on a list: the next event sees it. Asks `penstock up` where that runs."""
    from penstock.app.key_lists import Wanted

    root = project_root(project)
    node = _node(root, name)
    until = None if expires is None else _until(expires)
    wanted = [Wanted(key, expires_at=until) for key in _given(node, keys)]
    _change(root, name, wanted, actor=actor, reason=reason, as_json=as_json)


@commands.command("remove")
def remove(
    name: Name,
    keys: Keys,
    reason: Why,
    actor: Actor = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Take keys off a list: the next event sees it. Asks `penstock up` where that runs."""
    from penstock.app.key_lists import Wanted

    root = project_root(project)
    wanted = [Wanted(key, listed=False) for key in _given(_node(root, name), keys)]
    _change(root, name, wanted, actor=actor, reason=reason, as_json=as_json)


@commands.command("load")
def load(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A key a line; - is stdin.", allow_dash=True)],
    reason: Why,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take off the list what the file does not have.")
    ] = False,
    actor: Actor = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Put the keys of a file on a list; what is on it already is left as it is. Asks `penstock up` where that runs."""
    from penstock.app.key_lists import Key, key_names, to_become

    text = typer.get_text_stream("stdin").read() if str(file) == "-" else _text_of(file)
    with _index(project, name) as (root, index):
        keys = _keys(root, index.source, [line.strip() for line in text.splitlines() if line.strip()])
        there = index.members(keys=None if replace else keys, limit=index.version)
    before: dict[Key, Change] = {change.key: change for change in there if change.key is not None}
    chosen = to_become(before, keys, key_names(index.source))
    _change(root, name, chosen, actor=actor, reason=reason, as_json=as_json)


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")  # with the mark that Windows writes, or without
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: byte {error.start} is no UTF-8 ({error.reason}); allowed is a text file in UTF-8, a key a line. Convert it, with iconv."
        ) from error


@contextmanager
def _index(project: Path | None, name: str) -> Iterator[tuple[Path, ListIndex]]:
    from penstock.app.list_index import list_index
    from penstock.app.runtime import open_reader

    root = project_root(project)
    node = _node(root, name)
    with open_reader(root) as store, list_index(root, store, node) as index:
        yield root, index


def _node(root: Path, name: str) -> SourceNode:
    from penstock.app.key_lists import known

    return known(root, name)[1]


def _given(node: SourceNode, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Keys as they are typed, with values of their columns' types."""
    from penstock.app.key_lists import key_kinds, parsed_key

    kinds = key_kinds(node)
    return [parsed_key(text, kinds) for text in texts]


def _keys(root: Path, node: SourceNode, texts: Sequence[str]) -> list[tuple[Any, ...]]:
    """Keys as the log writes them."""
    from penstock.app.key_lists import keys_of
    from penstock.core.clock import SystemClock

    return keys_of(root, node, _given(node, texts), now_us=SystemClock().now_us())


def _until(text: str) -> datetime:
    from datetime import UTC

    from penstock.core.clock import SystemClock
    from penstock.core.time import from_us

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return from_us(SystemClock().now_us()) + duration_of(text, option="--expires")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _change(
    root: Path, name: str, wanted: Sequence[Wanted], *, actor: str | None, reason: str, as_json: bool
) -> None:
    from penstock.app.key_lists import MOST

    parts = [wanted[first : first + MOST] for first in range(0, len(wanted), MOST)]
    told = [_sent(root, name, part, actor=actor, reason=reason) for part in parts]
    if as_json:
        print_json({"list": name, "changed": len(wanted), "position": told[-1] if told else None})
        return
    if not told:
        say(f"list {name}: nothing to change.")
        return
    say(f"list {name}: {number(len(wanted))} changed; events after position {told[-1]} see it.")
    hint(f"penstock lists show {name}")


def _sent(root: Path, name: str, wanted: Sequence[Wanted], *, actor: str | None, reason: str) -> int:
    """The place of the last change in the log."""
    from penstock.app.list_changes import change
    from penstock.app.runtime import Runtime, audit_log_of
    from penstock.client import Client

    url = served_at(root)
    if url is not None:
        rows = [{"key": dict(w.key), "listed": w.listed, "expires_at": w.expires_at} for w in wanted]
        with Client(url, actor=actor) as client:
            return int(client.change_list(name, rows, reason=reason)["position"])
    with Runtime.open(root) as runtime:
        answers = change(
            runtime, name, wanted, actor=actor_name(actor), reason=reason, log=audit_log_of(root)
        )
    return max(one.position or 0 for one in answers)


def _print(changes: Sequence[Change], index: ListIndex, *, total: int, as_json: bool) -> None:
    from penstock.app.key_lists import key_names

    names = key_names(index.source)
    if as_json:
        print_json([change.to_dict(names) for change in changes])
        return
    print_table(
        [
            (
                number(one.version),
                "forgotten" if one.key is None else ", ".join(str(value) for value in one.key),
                "listed" if one.listed else "removed",
                "" if one.changed_at is None else f"{one.changed_at:%Y-%m-%d %H:%M}",
                "" if one.expires_at is None else f"{one.expires_at:%Y-%m-%d %H:%M}",
                one.actor or "",
                one.reason or "",
            )
            for one in changes
        ],
        head=("version", ", ".join(names), "", "changed", "until", "by", "why"),
        right=(0,),
    )
    say(f"list {index.source.name}, version {number(index.version)}: {number(total)} in all")
