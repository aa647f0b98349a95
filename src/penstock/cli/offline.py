"""``penstock offline``: the Delta Lake tables that keep a project's history."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import (
    hint,
    number,
    print_facts,
    print_json,
    print_table,
    progress_bar,
    say,
    size,
    tell,
)

commands = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="History as Delta Lake tables: export, upkeep."
)


@commands.command("sync")
def sync(project: Project = None, as_json: AsJson = False) -> None:
    """Export what is committed and not exported yet, exactly once.

    Works beside a running engine, which does the same every few seconds.
    """
    from penstock.app.offline import sync as export

    with progress_bar("exporting") as progress:
        done = export(project_root(project), progress=progress)
    if as_json:
        print_json(asdict(done))
        return
    if done.problem is not None:
        tell(f"penstock: {done.problem}")
    if not done.rows:
        say("Nothing new: everything was exported before.")
    else:
        print_table(
            [(name, number(rows)) for name, rows in done.rows.items()], head=("table", "rows"), right=(1,)
        )
    hint("penstock offline status")


@commands.command("status")
def status(project: Project = None, as_json: AsJson = False) -> None:
    """Print the tables: version, rows, files, sizes, and how far they are behind the log."""
    from penstock.app.offline import status as ask

    root = project_root(project)
    found = ask(root)
    if as_json:
        print_json(asdict(found))
        return
    print_facts(
        [
            ("place", found.uri.removeprefix(f"{root}/")),
            ("log", f"{number(found.position)} events and labels"),
            ("data sets", number(found.datasets)),
        ]
    )
    say()
    if not found.tables:
        say("There are no tables yet.")
        hint("penstock offline sync")
        return
    rows = [
        (t.name, number(t.version), number(t.exported), number(t.rows), number(t.files), size(t.bytes))
        for t in found.tables
    ]
    head = ("table", "version", "up to", "rows", "files", "size")
    print_table(rows, head=head, right=(1, 2, 3, 4, 5))
    hint("penstock offline compact, penstock offline vacuum")


@commands.command("compact")
def compact(project: Project = None, as_json: AsJson = False) -> None:
    """Rewrite small files as larger ones.

    Exports do it by themselves when many have piled up. Old versions keep their files until vacuum.
    """
    from penstock.app.offline import compact as rewrite

    _print_files(rewrite(project_root(project)), "files replaced", as_json=as_json)


@commands.command("vacuum")
def vacuum(
    retention_hours: Annotated[
        int, typer.Option("--retention-hours", min=0, help="Files that went out of use later than that stay.")
    ] = 168,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the files.")] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Remove files that no version in use needs.

    The newest version stays readable, and every version that a data set names.
    """
    from penstock.app.offline import vacuum as clean

    removed = clean(project_root(project), retention_hours=retention_hours, dry_run=dry_run)
    _print_files(removed, "files to remove" if dry_run else "files removed", as_json=as_json)


def _print_files(files: dict[str, int], title: str, *, as_json: bool) -> None:
    if as_json:
        print_json(files)
        return
    print_table([(name, number(count)) for name, count in files.items()], head=("table", title), right=(1,))
    hint("penstock offline status")
