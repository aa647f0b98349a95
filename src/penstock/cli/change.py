"""``penstock plan`` and ``penstock apply``: what new definitions would do, and putting them into force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import Actor, AsJson, Project, actor_name, project_root, without_cards
from penstock.cli.output import hint, moment, number, print_facts, print_json, print_table, say, size, tell
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.app.changing import ChangePlan

_MARKS = {"add": "+", "change": "~", "remove": "-"}
JsonOut = Annotated[
    Path | None, typer.Option("--json-out", metavar="FILE", help="Also write the plan as JSON to FILE.")
]


def plan(project: Project = None, json_out: JsonOut = None, as_json: AsJson = False) -> None:
    """Show what applying the definitions would change.

    Objects that differ from those in force, model versions in use that could not serve any more, and what would be folded
    from the log. Changes nothing; works beside a running engine.
    """
    from penstock.app.changing import plan_change
    from penstock.definitions.project import load_project

    change = plan_change(load_project(project_root(project)))
    _write(change, json_out)
    if as_json:
        print_json(change.to_dict())
        return
    _show(change)
    if change.touched or change.forbidden:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def apply(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; kept in the history.", callback=without_cards)
    ] = "applied on the command line",
    actor: Actor = None,
    project: Project = None,
    json_out: JsonOut = None,
    as_json: AsJson = False,
) -> None:
    """Put the definitions into force.

    A running engine takes them over without stopping: new features are folded from the log beside it, then swapped in at
    once, with their full history. What a model in use needs is not taken away.
    """
    from penstock.app import changing
    from penstock.app.kafka_inputs import check_schemas
    from penstock.app.settings import load_settings
    from penstock.definitions.project import load_project

    root = project_root(project)
    loaded = load_project(root)
    change = changing.plan_change(loaded)
    check_schemas(loaded, change.plan, load_settings(root).kafka)
    _write(change, json_out)
    if not as_json:
        _show(change)
    if change.is_empty:
        if as_json:
            print_json(change.to_dict())
        return
    if (
        not change.touched
        and not change.forbidden
        and not yes
        and not as_json
        and not typer.confirm("\nApply?")
    ):
        tell("penstock: nothing was applied")
        raise typer.Exit(ExitCode.CHECK_FAILED)
    applied = changing.apply(change, root, actor=actor_name(actor), reason=reason)
    if as_json:
        print_json({**change.to_dict(), "applied_version": applied.version})
        return
    say(f"\nVersion {applied.version} is in force.")
    hint("penstock run; a running engine takes it over by itself (penstock status)")


def versions(
    version: Annotated[int | None, typer.Argument(metavar="VERSION", help="Show this version.")] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of the definitions that were in force."""
    from dataclasses import asdict

    from penstock.app.applied import AppliedHistory
    from penstock.app.runtime import state_folder
    from penstock.plan.explain import explain_description

    history = AppliedHistory(state_folder(project_root(project))).all()
    if version is not None:
        found = next((one for one in history if one.version == version), None)
        if found is None:
            raise InputError(f"versions: there is no version {version}; there are 1 to {len(history)}.")
        if as_json:
            print_json(asdict(found))
            return
        for line in explain_description(found.description):
            say(line)
        return
    if as_json:
        print_json([asdict(one) for one in history])
        return
    if not history:
        say("Nothing was applied yet.")
        hint("penstock plan")
        return
    rows = [
        (number(one.version), moment(one.applied_us), one.actor, _summary(one.changes), one.reason)
        for one in history
    ]
    print_table(rows, head=("version", "in force from", "by", "changes", "why"), right=(0,))
    newest = history[-1].versions
    say()
    print_facts(
        [(f"{kind}s", ", ".join(f"{n} v{v}" for n, v in newest[kind].items()) or "none") for kind in newest]
    )
    hint(f"penstock versions {history[-1].version}")


def _summary(changes: list[dict[str, str]]) -> str:
    counts = {mark: sum(c["action"] == action for c in changes) for action, mark in _MARKS.items()}
    return " ".join(f"{mark}{count}" for mark, count in counts.items() if count) or "none"


def _write(change: ChangePlan, file: Path | None) -> None:
    if file is None:
        return
    try:
        file.write_text(json.dumps(change.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"plan: {file} cannot be written ({error.strerror}). Choose another file."
        ) from error


def _show(change: ChangePlan) -> None:
    if change.is_empty:
        assert change.applied is not None
        say(f"No change: the definitions are those in force, version {change.applied.version}.")
        hint("penstock run")
        return
    against = "nothing, so far" if change.applied is None else f"version {change.applied.version}"
    say(f"Changes to {against}:")
    for one in change.changes:
        say(f"  {_MARKS[one.action]} {one.kind} {one.name}")
        for line in one.details:
            say(f"      {line}")
    if change.recomputed:
        say("\nState to be folded from the log:")
        rows = [
            (
                one.view,
                number(one.rows),
                "–" if one.seconds is None else f"{one.seconds:,.1f} s",
                "–" if one.state_bytes is None else size(one.state_bytes),
            )
            for one in change.recomputed
        ]
        print_table(rows, head=("view", "rows", "about", "state about"), right=(1, 2, 3))
    if change.endpoints:
        say("\nEndpoints:")
        for endpoint in change.endpoints:
            say(f"  {endpoint.text}")
    _show_obstacles(change)


def _show_obstacles(change: ChangePlan) -> None:
    for touched in change.touched:
        say(f"\nNot possible: {touched.version} ({touched.stage}) {touched.why} {touched.service}.")
    for line in change.forbidden:
        say(f"\nNot possible: {line}")
    if change.refused:
        hint("penstock contracts")
    elif change.forbidden:
        hint("penstock registry")
    elif change.touched:
        hint("define the new features beside the old under another name, train, promote, then remove the old")
    else:
        hint("penstock apply")
