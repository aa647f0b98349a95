"""``penstock keys``: who may use the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import Actor, AsJson, Project, actor_name, duration_of, project_root, without_cards
from penstock.cli.output import hint, moment, number, print_json, print_table, say, tell

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Who may use the HTTP API.")

_Why = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the audit log.", callback=without_cards)
]


@commands.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who uses it.")],
    scope: Annotated[
        list[str], typer.Option("--scope", help="What it may do: read, score, write, admin; may be repeated.")
    ],
    expires: Annotated[
        str | None, typer.Option("--expires", help="How long it works: 12h, 90d. [default: until revoked]")
    ] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Requests a second that it may make.")] = None,
    reason: _Why = None,
    actor: Actor = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, once.

    As soon as a project has a key, every request needs one, from this machine too.
    """
    from penstock.app.api_keys import create_key
    from penstock.core.clock import SystemClock

    key, text = create_key(
        project_root(project),
        name,
        scope,
        expires_in=None if expires is None else duration_of(expires, option="--expires"),
        rate=rate,
        actor=actor_name(actor),
        reason=reason or f"a key for {name}",
        clock=SystemClock(),
    )
    if as_json:
        print_json(
            {"id": key.key_id, "key": text, "scopes": sorted(key.scopes), "expires_us": key.expires_us}
        )
        return
    say(text)
    tell(f"penstock: keep it now, it is not shown again. `penstock keys revoke {key.key_id}` ends it.")


@commands.command("list")
def list_keys(project: Project = None, as_json: AsJson = False) -> None:
    """List keys: who has them, what they may do, and whether they work."""
    from penstock.app.api_keys import key_store_of
    from penstock.core.clock import SystemClock

    now_us = SystemClock().now_us()
    found = key_store_of(project_root(project)).all()
    if as_json:
        print_json(
            [
                {
                    "id": key.key_id,
                    "name": key.name,
                    "scopes": sorted(key.scopes),
                    "state": key.state(now_us),
                    "created_us": key.created_us,
                    "expires_us": key.expires_us,
                    "revoked_us": key.revoked_us,
                    "rate": key.rate,
                }
                for key in found
            ]
        )
        return
    print_table(
        [
            (
                key.key_id,
                key.name,
                ", ".join(sorted(key.scopes)),
                key.state(now_us),
                moment(key.created_us),
                "never" if key.expires_us is None else moment(key.expires_us),
                "" if key.rate is None else number(key.rate),
            )
            for key in found
        ],
        head=("id", "name", "scopes", "state", "created", "expires", "rate"),
        right=(6,),
    )
    hint("penstock keys create NAME --scope score" if not found else "penstock keys revoke ID")


@commands.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")],
    reason: _Why = None,
    actor: Actor = None,
    project: Project = None,
) -> None:
    """End a key for good. A running server refuses it within a second."""
    from penstock.app.api_keys import revoke_key
    from penstock.core.clock import SystemClock

    key = revoke_key(
        project_root(project),
        key_id,
        actor=actor_name(actor),
        reason=reason or "no longer wanted",
        clock=SystemClock(),
    )
    say(f"{key.key_id} ({key.name}) is revoked.")
