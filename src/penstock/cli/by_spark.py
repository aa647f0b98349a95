"""What ``--engine spark`` does: features of files and of streams, by PySpark (``pip install 'penstock[spark]'``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.output import hint, number, print_facts, print_json, tell
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.definitions.project import Project

ENGINES = ("local", "spark")

Engine = Annotated[
    str, typer.Option("--engine", metavar="|".join(ENGINES), help="Where to compute: this process, or Spark.")
]


def check_engine(engine: str) -> None:
    """Raise `InputError` unless `engine` is one."""
    if engine not in ENGINES:
        raise InputError(f"--engine {engine!r} found; allowed are {' and '.join(ENGINES)}. Choose one.")


def backfill_by_spark(
    project: Project,
    service: str,
    *,
    events: Path,
    history: Mapping[str, str],
    out: Path,
    timestamp: str | None,
    as_json: bool,
) -> None:
    """``penstock backfill --engine spark``."""
    from penstock.app.spark import backfill, spark_session

    rows, features = backfill(
        spark_session(),
        project,
        service,
        events=str(events),
        history=history,
        out=out,
        timestamp_key=timestamp,
    )
    if as_json:
        print_json({"rows": rows, "features": list(features), "out": str(out)})
        return
    sources = ", ".join(history) if history else "the events themselves"
    print_facts(
        [
            ("rows", number(rows)),
            ("features", number(len(features))),
            ("history", sources),
            ("written", str(out)),
        ]
    )
    hint("penstock train MODEL --events FILE --labels FILE")


def run_by_spark(
    root: Path,
    places: Mapping[str, str],
    *,
    service: str | None,
    outs: Sequence[str],
    follow: bool,
    as_json: bool,
) -> None:
    """``penstock run --engine spark``."""
    from penstock.app.runtime import state_folder
    from penstock.app.spark import spark_session
    from penstock.app.spark_stream import start_stream
    from penstock.definitions.project import load_project

    project = load_project(root)
    chosen = _service(project, service)
    kept = state_folder(root) / "spark" / chosen
    table, topic = _sinks(outs or [str(kept / "feature_vectors")])
    stream = start_stream(
        spark_session(),
        project,
        chosen,
        places=places,
        checkpoint=kept / "checkpoint",
        out=table,
        topic=topic,
        follow=follow,
    )
    if follow:
        tell(f"penstock: following {', '.join(places)}; Ctrl-C ends it")
    stream.wait()
    written = [str(one) for one in (table, topic) if one is not None]
    if as_json:
        print_json({"service": chosen, "out": written})
        return
    print_facts([("service", chosen), ("written", ", ".join(written))])


def _sinks(outs: Sequence[str]) -> tuple[Path | None, str | None]:
    """The table and the topic among what ``--out`` named."""
    from penstock.app.spark_sources import KAFKA

    topics = [one for one in outs if one.startswith(KAFKA)]
    tables = [Path(one) for one in outs if not one.startswith(KAFKA)]
    for found, what in ((tables, "Delta table"), (topics, "topic")):
        if len(found) > 1:
            raise InputError(
                f"run: --out names {len(found)} of the kind {what}: {', '.join(map(str, found))}; allowed is one of each kind. Leave some out."
            )
    return next(iter(tables), None), next(iter(topics), None)


def _service(project: Project, name: str | None) -> str:
    if name is not None:
        return name
    names = list(project.services)
    if len(names) != 1:
        raise InputError(
            f"run: --engine spark computes one feature service, and the project has {', '.join(names) or 'none'}. Name one "
            "with --service."
        )
    return names[0]
