"""``penstock backup`` and ``penstock restore``: what a project keeps, copied while it runs, and put back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, moment, number, print_json, say, tell


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; there must not be one yet.")],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Copy what the project keeps to a new folder.

    A running project goes on meanwhile. Snapshots, indexes and offline tables are left out: they are made again from the log. The
    project's own files, its definitions and penstock.toml, are not in it either. Keep it as safe as the project: it holds events and keys.
    """
    from penstock.app.backing_up import back_up, kept_elsewhere
    from penstock.core.clock import SystemClock

    root = project_root(project)
    found = back_up(root, folder, clock=SystemClock())
    elsewhere = kept_elsewhere(root)
    if as_json:
        print_json(asdict(found) | {"log_length": found.log_length, "elsewhere": list(elsewhere)})
        return
    say(f"{number(found.log_length)} events and labels, {number(len(found.files))} files in {folder}")
    for what in elsewhere:
        tell(f"penstock: not in it: {what}. Back it up where it is kept.")
    hint(f"penstock restore {folder}")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `penstock backup` made.")],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup into a project that keeps nothing yet.

    Every file is compared with its digest first. The next start rebuilds features and indexes from the log.
    """
    from penstock.app.backing_up import restore as put_back

    found = put_back(project_root(project), folder)
    if as_json:
        print_json(asdict(found) | {"log_length": found.log_length})
        return
    say(f"restored: {number(found.log_length)} events and labels as of {moment(found.taken_us)}")
    hint("penstock audit")
