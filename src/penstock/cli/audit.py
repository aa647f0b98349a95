"""``penstock audit``: every feature served, recomputed from the log and compared."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_facts, print_json, print_table, progress_bar, say


def audit(
    shard: Annotated[
        str,
        typer.Option(
            help="Audit this shard of workers (its number, or COLUMN-NUMBER), instead of a project that is whole.",
            show_default=False,
        ),
    ] = "",
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Recompute all features served and compare.

    Every logged vector is compared with its recomputation from the log, bit for bit; exit code 1 if any differs. Works beside a running engine.
    """
    from penstock.app.runtime import open_reader
    from penstock.app.settings import load_settings
    from penstock.app.shard_plans import shard_plan
    from penstock.definitions.project import load_project
    from penstock.engine.audit import audit as compare

    root = project_root(project)
    plan = shard_plan(load_project(root), load_settings(root), shard)
    with open_reader(root, shard) as store, progress_bar("audit") as progress:
        report = compare(store, plan, progress=progress)
    if as_json:
        print_json({"clean": report.clean, **asdict(report)})
    else:
        facts = [
            ("vectors", f"{number(report.vectors)} compared"),
            ("values", number(report.values)),
            ("differing", number(report.differing)),
            ("missing", f"{number(report.missing)} decisions"),
        ]
        print_facts([*facts, *((f"skipped, {why}", number(count)) for why, count in report.skipped.items())])
        if report.examples:
            rows = [
                (number(m.position), m.feature, repr(m.served), repr(m.recomputed)) for m in report.examples
            ]
            print_table(rows, head=("position", "feature", "served", "recomputed"), right=(0, 2, 3))
        say("clean" if report.clean else "NOT clean")
        hint("penstock status" if report.clean else "penstock replay --rebuild, and report it as a defect")
    if not report.clean:
        raise typer.Exit(ExitCode.CHECK_FAILED)
