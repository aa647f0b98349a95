"""``penstock backfill``: point-in-time features for a file of events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.by_spark import Engine, backfill_by_spark, check_engine
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_facts, print_json
from penstock.core.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from penstock.definitions.project import Project as Definitions


def backfill(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The feature service.")],
    events: Annotated[
        Path, typer.Option("--events", help="Parquet, CSV or NDJSON: the events, or keys and times.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write.")],
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--history",
            metavar="SOURCE=FILE",
            help="A source's history; default: the project's log, of batch sources also their tables.",
        ),
    ] = None,
    timestamp: Annotated[
        str | None, typer.Option("--timestamp", help="The events' time column, if it has another name.")
    ] = None,
    engine: Engine = "local",
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Features for a file of events.

    Each row gets the features of a service as of its own time. With --engine spark, files and folders of Parquet and Delta tables go in, a
    folder of Parquet comes out, and the history of every source is named.
    """
    from penstock.app.batch_tables import with_tables
    from penstock.app.tables import read_table
    from penstock.definitions.project import load_project
    from penstock.engine.training_set import batch_sources_of, features_for_frame, source_names

    root = project_root(project)
    loaded = load_project(root)
    if service not in loaded.services:
        raise NotFoundError(
            f"feature service {service!r} does not exist; there are {', '.join(loaded.services)}."
        )
    check_engine(engine)
    if engine == "spark":
        files = {name: str(path) for name, path in _pairs(history or [])}
        backfill_by_spark(
            loaded, service, events=events, history=files, out=out, timestamp=timestamp, as_json=as_json
        )
        return
    table = read_table(events, owner="events")
    references = loaded.services[service].features
    found: Any = {n: read_table(p, owner=f"history of {n!r}") for n, p in _pairs(history or [])}
    found = found or _logged(root, loaded, source_names(references))
    found = with_tables(found, batch_sources_of(references).values(), root=root)
    frame = features_for_frame(references, table, history=found, timestamp_key=timestamp)
    frame.to_parquet(out)
    if as_json:
        print_json({"rows": len(frame), "features": list(frame.feature_names), "out": str(out)})
        return
    sources = ", ".join(found) if found else "the events themselves"
    print_facts(
        [
            ("rows", number(len(frame))),
            ("features", number(len(frame.feature_names))),
            ("history", sources),
            ("written", str(out)),
        ]
    )
    hint("penstock train MODEL --events FILE --labels FILE")


def _pairs(history: list[str]) -> list[tuple[str, Path]]:
    pairs = []
    for text in history:
        source, equals, path = text.partition("=")
        if not equals or not source or not path:
            raise InputError(
                f"backfill: --history {text!r} found; allowed is SOURCE=FILE. Name the source first."
            )
        pairs.append((source, Path(path)))
    return pairs


def _logged(root: Path, loaded: Definitions, sources: set[str]) -> Any:
    """The history in the project's log; None where there is none, so that the events are their own."""
    from penstock.app.runtime import open_reader, plan_of
    from penstock.app.storing import has_run
    from penstock.engine.logged_history import history_of

    if not has_run(root):
        return None
    with open_reader(root) as store:
        return history_of(store, plan_of(loaded), sources=sources) or None
