"""``penstock contracts``: the versions of the sources' schemas, and what events carry besides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, moment, number, print_facts, print_json, print_table, printable, say

if TYPE_CHECKING:
    from penstock.app.agreements import Agreement


def contracts(
    source: Annotated[str | None, typer.Argument(metavar="[SOURCE]", help="Only this source.")] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Show versions of schemas, and unknown fields.

    The versions that events were accepted under; whether the definitions as they are would be accepted, or what they would
    break (exit code 1); and fields that events carry and no schema names.
    """
    from penstock.app.agreements import agreements

    found = agreements(project_root(project), source)
    if as_json:
        print_json([one.to_dict() for one in found])
    else:
        for one in found:
            _print(one)
        hint("penstock run" if not any(one.refused for one in found) else "mend the schema, as said above")
    if any(one.refused for one in found):
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _print(found: Agreement) -> None:
    say(f"{found.source}")
    rows = [(str(v.number), number(v.since), moment(v.at_us), v.text) for v in found.versions]
    if rows:
        print_table(rows, head=("version", "from", "when", "what"), right=(0, 1))
    else:
        say("  no version yet: it has never run")
    if found.pending:
        say(
            f"  changed since: {found.pending}; "
            + ("refused" if found.refused else "will be the next version")
        )
    for line in found.refused:
        print_facts([("  refused", line)])
    if found.unknown:
        shown = ", ".join(
            f"{printable(name.encode(), 64)} in about {number(count * found.every)}"
            for name, count in found.unknown.items()
        )
        print_facts([("  unknown fields", f"{shown} events (one in {found.every} is looked at)")])
    say()
