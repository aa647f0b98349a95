"""``penstock forget``: a key removed from everything that the project keeps."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from penstock.cli.exits import ExitCode
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_facts, print_json, progress_bar, say, tell


def forget(
    key: Annotated[
        list[str],
        typer.Argument(metavar="KEY", help="The key: one value for each of the entity's join keys."),
    ],
    entity: Annotated[str, typer.Option("--entity", help="The entity that the key is of.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Remove a key for good.

    Its events, labels, decisions, state and dead letters leave the project's files, offline tables and their old versions among them. Copies outside the project, such as input files and backups, are not touched.
    """
    from penstock.app.forgetting import forget as erase
    from penstock.core.clock import SystemClock

    root = project_root(project)
    if not yes and not typer.confirm(f"Forget {entity} {' '.join(key)} for good?", err=True):
        tell("penstock: nothing was changed")
        raise typer.Exit(ExitCode.INTERRUPTED)
    with progress_bar("forgetting") as progress:
        done = erase(root, entity, key, clock=SystemClock(), progress=progress)
    if as_json:
        print_json(asdict(done))
        return
    if not done.anything:
        say(f"Nothing of this {entity} was found; the files hold nothing of it.")
    print_facts(
        [
            ("events", number(done.events)),
            ("labels", number(done.labels)),
            ("waiting labels", number(done.pending_labels)),
            ("dead letters", number(done.dead_letters)),
            ("offline rows", number(done.offline_rows)),
        ]
    )
    if done.datasets:
        say(f"Data sets that held it cannot be made again: {', '.join(done.datasets)}")
    hint("penstock audit")
