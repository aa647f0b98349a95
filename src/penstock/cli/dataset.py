"""``penstock dataset``: training sets that can be made again bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, moment, number, print_facts, print_json, print_table, progress_bar, say

if TYPE_CHECKING:
    from penstock.app.datasets import Dataset

Id = Annotated[str, typer.Argument(metavar="ID", help="The data set's id: ds-…")]

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Training sets, recorded so that they can be made again.",
)


@commands.command("list")
def list_datasets(project: Project = None, as_json: AsJson = False) -> None:
    """List the recorded training sets."""
    from penstock.app.datasets import DatasetFolder

    found = DatasetFolder(project_root(project)).all()
    if as_json:
        print_json([_document(one) for one in found])
        return
    if not found:
        say("No data set is recorded.")
        hint("penstock train MODEL")
        return
    rows = [
        (
            d.id,
            d.service,
            d.question.as_of,
            number(d.rows),
            moment(d.created_us),
            "no" if d.unavailable else "yes",
        )
        for d in found
    ]
    print_table(rows, head=("data set", "service", "as of", "rows", "recorded", "again"), right=(3,))
    hint(f"penstock dataset show {found[-1].id}")


@commands.command("show")
def show(dataset: Id, project: Project = None, as_json: AsJson = False) -> None:
    """Show one: what was asked, which table versions hold it, and its digest."""
    from penstock.app.datasets import DatasetFolder

    found = DatasetFolder(project_root(project)).get(dataset)
    if as_json:
        print_json(_document(found))
        return
    asked = found.question
    print_facts(
        [
            ("data set", found.id),
            ("service", f"{found.service}, fingerprint {found.service_fingerprint}"),
            ("rows", f"{number(found.rows)}, {number(len(found.columns))} columns"),
            ("order", asked.as_of),
            ("log", f"up to position {number(asked.position)}"),
            ("events", f"{_time(asked.start_us, 'the first')} to {_time(asked.end_us, 'the last')}"),
            ("labels", f"{asked.label or 'none'}{_delay(asked.label_delay_us)}"),
            ("tables", ", ".join(f"{name} version {at.version}" for name, at in found.tables.items())),
            ("digest", found.digest),
            ("recorded", f"{moment(found.created_us)} by Penstock {found.penstock}"),
            ("again", f"no: {found.unavailable}" if found.unavailable else "yes"),
        ]
    )
    hint(f"penstock dataset rebuild {found.id} --output FILE.parquet")


@commands.command("rebuild")
def rebuild(
    dataset: Id,
    output: Annotated[Path | None, typer.Option("--output", help="The Parquet file to write.")] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Make one again from the table versions that it names.

    Every value is compared with the recorded digest; without --output nothing is written.
    """
    from penstock.app.datasets import DatasetFolder, rebuild_dataset

    root = project_root(project)
    record = DatasetFolder(root).get(dataset)
    with progress_bar("rebuilding") as progress:
        made = rebuild_dataset(root, dataset, progress=progress)
        rows = sum(len(batch) for batch in made.batches()) if output is None else made.to_parquet(output)
    if as_json:
        print_json(
            {
                "id": record.id,
                "rows": rows,
                "digest": record.digest,
                "output": None if output is None else str(output),
            }
        )
        return
    print_facts([("rows", number(rows)), ("digest", f"{record.digest} as recorded")])
    if output is not None:
        say(f"written  {output}")
    hint(f"penstock dataset show {record.id}")


def _document(dataset: Dataset) -> object:
    import msgspec

    return msgspec.to_builtins(dataset)


def _time(us: int | None, otherwise: str) -> str:
    return otherwise if us is None else moment(us)


def _delay(us: int | None) -> str:
    from penstock.core.time import format_duration

    return "" if us is None else f", known within {format_duration(us)} of their event"
