"""``penstock doctor``: whether a project has what it needs, and what to do where it has not."""

from __future__ import annotations

from dataclasses import asdict

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import print_facts, print_json, say


def doctor(project: Project = None, as_json: AsJson = False) -> None:
    """Look at all that a project needs, and say what to do.

    Settings, definitions, folders, disk, clock, store, registry, keys, port, receivers of alerts, versions of libraries. Changes nothing, and
    works beside a running project. Exit code 1 where something is wrong; what is only unusual is a note.
    """
    from penstock.cli.doctor_checks import examine

    found = examine(project_root(project))
    wrong = [one for one in found if one.state == "wrong"]
    if as_json:
        print_json({"well": not wrong, "checks": [asdict(one) for one in found]})
    else:
        marks = {"well": "ok", "note": "note", "wrong": "WRONG"}
        for one in found:
            text = one.found if not one.advice else f"{one.found} → {one.advice}"
            print_facts([(f"{marks[one.state]:<6} {one.name:<12}", text)])
        notes = sum(one.state == "note" for one in found)
        say()
        say(f"{len(found)} checks: {len(wrong)} wrong, {notes} to note")
    if wrong:
        raise typer.Exit(ExitCode.CHECK_FAILED)
