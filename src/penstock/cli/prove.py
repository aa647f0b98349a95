"""``penstock test``: whether the features keep the one rule, and whether the project's own tests pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_facts, print_json, print_table, progress_bar, say

if TYPE_CHECKING:
    from penstock.app.proving import Proof


def prove(
    services: Annotated[
        list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Only these feature services.")
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=10, help="How many of the newest logged rows to try.")
    ] = 2000,
    only: Annotated[
        str | None, typer.Option("-k", help="Of the own tests those that match; see pytest -k.")
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Test the features: leakage, batches, repeats, own tests.

    Tried on the newest events of the log, or on generated ones where it is empty: deleting what is later than t must not
    change a value at t, nor may other keys, the size of a batch or a second run; then pytest runs the folder tests/. Exit
    code 1 if anything fails.
    """
    from penstock.app import proving

    root = project_root(project)
    arguments = ["-k", only] if only else []
    with progress_bar("trying") as progress:
        proof = proving.prove(root, services or (), rows=rows, arguments=arguments, progress=progress)
    if as_json:
        print_json(proof.to_dict())
    else:
        _print(proof)
    if not proof.passed:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _print(proof: Proof) -> None:
    kind = "generated rows; run the project to try its own" if proof.generated else "rows of the log"
    say(f"tried on {number(proof.rows)} {kind}")
    marks = {True: "passed", False: "FAILED", None: "not tried"}
    table = [
        (
            one.service,
            one.name,
            marks[one.passed],
            number(one.compared),
            "" if one.passed is False else one.detail,
        )
        for one in proof.trials
    ]
    print_table(table, head=("service", "trial", "", "values", "how"), right=(3,))
    for one in proof.trials:
        if one.passed is False:
            say()
            print_facts([(f"{one.service}, {one.name}", one.detail)])
    say(f"\nown tests: {marks[proof.own.passed] if proof.own.passed is not None else 'none'}")
    if proof.own.output:
        say(proof.own.output)
    hint("penstock explain shows the functions" if not proof.passed else "penstock audit")
