"""``penstock route``: which versions decide for an endpoint, and on what share of its keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import Actor, AsJson, Project, actor_name, project_root, without_cards
from penstock.cli.output import hint, moment, print_json, print_table, say
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.stores.audit_log import AuditLog


def route(
    endpoint: Annotated[
        str | None, typer.Argument(metavar="ENDPOINT", help="Which endpoint; default: the only one.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Argument(metavar="ARM=WEIGHT", help="Weights to set, such as challenger=10.")
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Why the weights are set; kept in the audit log.", callback=without_cards),
    ] = None,
    actor: Actor = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the weights of the definition.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Print who set which weights.")] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Show an endpoint's arms, or set their weights.

    A running engine takes new weights over within a second. A key stays with its arm while the weights stay; a weight that grows
    moves keys to its arm only.
    """
    from penstock.app.route_watch import running_notes
    from penstock.app.routing import (
        arm_shares,
        endpoint_named,
        reset_weights,
        set_weights,
    )
    from penstock.app.runtime import audit_log_of, plan_of, registry_of
    from penstock.definitions.project import load_project

    root = project_root(project)
    node = endpoint_named(plan_of(load_project(root)), endpoint)
    audit = audit_log_of(root)
    if history:
        _print_history(node.name, audit, as_json=as_json)
        return
    changing = bool(weights) or reset
    if changing:
        if not reason:
            raise InputError("route: --reason is missing; needed is a text. Say why the weights change.")
        who, length = actor_name(actor), _log_length(root)
        if reset:
            reset_weights(node, audit, actor=who, reason=reason, position=length)
        if weights:
            set_weights(node, _parsed(weights), audit, actor=who, reason=reason, position=length)
    shares = arm_shares(node, registry_of(root), audit)
    if as_json:
        print_json({"endpoint": node.name, "arms": shares})
        return
    if changing:
        say(f"The weights of {node.name} are set; a running engine takes them over within a second.")
    cells = [
        (
            one["arm"],
            one["version"] or f"no {one['of']}",
            "shadow" if one["shadow"] else f"{one['share']:.1%}",
        )
        for one in shares
    ]
    print_table(cells, head=("arm", "version", "share of keys"))
    notes = running_notes(root)
    for one in shares if notes is not None else ():
        serving = notes.routes.get(node.name, {}).get(one["arm"], "none")  # type: ignore[union-attr]
        if one["version"] is not None and serving.partition("+")[0] != one["version"]:
            say(f"The running engine has {serving} in {one['arm']}: {_why(notes, node.name)}")
    hint(f'penstock route {node.name} ARM=WEIGHT --reason "..."')


def _print_history(endpoint: str, audit: AuditLog, *, as_json: bool) -> None:
    """Who set which weights."""
    from penstock.app.routing import ACTION

    rows = audit.rows(action=ACTION, subject=endpoint)
    if as_json:
        print_json([{"time_us": r.time_us, "actor": r.actor, "reason": r.reason, **r.values()} for r in rows])
        return
    print_table([(moment(r.time_us), r.actor, _text(r.values()["weights"]), r.reason) for r in rows],
                head=("when", "who", "weights", "why"))  # fmt: skip
    return


def _log_length(root: Path) -> int:
    from penstock.app.runtime import open_reader
    from penstock.app.storing import has_run

    if not has_run(root):
        return 0
    with open_reader(root) as store:
        return store.next_position


def _why(notes: Any, endpoint: str) -> str:
    return notes.problems.get(endpoint) or notes.problems.get("routes") or "it is being loaded"


def _parsed(weights: list[str]) -> dict[str, float]:
    found = {}
    for text in weights:
        name, equals, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise InputError(
                f"route: {text!r} is no weight; allowed is ARM=NUMBER. Write for example challenger=10."
            )
    return found


def _text(weights: dict[str, float] | None) -> str:
    if weights is None:
        return "as defined"
    return ", ".join(f"{name}={weight:g}" for name, weight in weights.items())
