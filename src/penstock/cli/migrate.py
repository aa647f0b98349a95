"""``penstock migrate``: the tables of a store in PostgreSQL, made or brought up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import print_json, say


def migrate(
    sql: Annotated[
        bool, typer.Option("--sql", help="Print all steps as SQL and do nothing; needs no server.")
    ] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Bring the tables in PostgreSQL up to date.

    Where `[store] migrate` is left on, opening the project does the same. No process may be writing to the store meanwhile.
    """
    from penstock.app.storing import migrate as migrated
    from penstock.app.storing import migration_sql

    root = project_root(project)
    if sql:
        typer.echo(migration_sql(root))
        return
    store, before, after = migrated(root)
    if as_json:
        print_json({"store": store, "before": before, "after": after})
    elif before == after:
        say(f"{store}: its tables are at step {after} already.")
    else:
        say(
            f"{store}: tables made, step {after}."
            if before is None
            else f"{store}: from step {before} to {after}."
        )
