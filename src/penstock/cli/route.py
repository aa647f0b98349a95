"""``penstock route``: which versions decide for an endpoint, and on what share of its keys."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import Actor, AsJson, Project, actor_name, project_root
from penstock.cli.output import hint, moment, print_json, print_table, say
from penstock.core.errors import InputError


def route(
    endpoint: Annotated[
        str | None, typer.Argument(metavar="ENDPOINT", help="Which endpoint; default: the only one.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Argument(metavar="ARM=WEIGHT", help="Weights to set, such as challenger=10.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why the weights are set; kept in the audit log.")
    ] = None,
    actor: Actor = None,
    history: Annotated[bool, typer.Option("--history", help="Print who set which weights.")] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Show an endpoint's arms, or set their weights.

    A running engine takes new weights over within a second. A key stays with its arm while the weights stay; a weight that grows
    moves keys to its arm only.
    """
    from penstock.app.routing import ACTION, arm_shares, endpoint_named, set_weights
    from penstock.app.runtime import audit_log_of, plan_of, registry_of
    from penstock.definitions.project import load_project

    root = project_root(project)
    node = endpoint_named(plan_of(load_project(root)), endpoint)
    audit = audit_log_of(root)
    if history:
        rows = audit.rows(action=ACTION, subject=node.name)
        if as_json:
            print_json(
                [{"time_us": r.time_us, "actor": r.actor, "reason": r.reason, **r.values()} for r in rows]
            )
            return
        print_table([(moment(r.time_us), r.actor, _text(r.values()["weights"]), r.reason) for r in rows],
                    head=("when", "who", "weights", "why"))  # fmt: skip
        return
    if weights:
        if not reason:
            raise InputError("route: --reason is missing; needed is a text. Say why the weights change.")
        set_weights(node, _parsed(weights), audit, actor=actor_name(actor), reason=reason)
    shares = arm_shares(node, registry_of(root), audit)
    if as_json:
        print_json({"endpoint": node.name, "arms": shares})
        return
    if weights:
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
    hint(f'penstock route {node.name} ARM=WEIGHT --reason "..."')


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


def _text(weights: dict[str, float]) -> str:
    return ", ".join(f"{name}={weight:g}" for name, weight in weights.items())
