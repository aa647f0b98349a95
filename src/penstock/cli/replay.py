"""``penstock replay``: the log through the features again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_facts, print_json, progress_bar, say
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.app.replaying import Recomputed


def replay(
    start: Annotated[int, typer.Option("--from", min=0, help="The first log position.")] = 0,
    stop: Annotated[
        int | None, typer.Option("--to", min=0, help="The position to stop before; default: the end.")
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", help="Which service; needed where there are several.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A Parquet file for positions, ids and features.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Fold the whole log again and replace the snapshots.")
    ] = False,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a stretch of the log.

    Features come out as they were served; nothing is decided again.
    """
    root = project_root(project)
    if rebuild:
        if start or stop is not None or out is not None or service is not None:
            raise InputError(
                "replay: --rebuild folds the whole log; it goes with no other option. Leave one out."
            )
        _rebuild(root, as_json=as_json)
        return
    from penstock.app.replaying import recompute

    with progress_bar("replay") as progress:
        found = recompute(root, service, start=start, stop=stop, out=out, progress=progress)
    _print(found, as_json=as_json)


def _print(found: Recomputed, *, as_json: bool) -> None:
    if as_json:
        print_json(found.to_dict())
        return
    print_facts(
        [
            ("service", found.service),
            ("positions", f"{number(found.start)} to {number(found.stop)}"),
            ("events", number(found.rows)),
            ("features", number(found.features)),
            ("written", str(found.out) if found.out else "nothing: give --out FILE.parquet"),
        ]
    )
    hint("penstock audit")


def _rebuild(root: Path, *, as_json: bool) -> None:
    from penstock.app.runtime import Runtime

    with (
        progress_bar("rebuilding") as progress,
        Runtime.open(root, rebuild=True, progress=progress) as runtime,
    ):
        length = runtime.engine.position
    if as_json:
        print_json({"rebuilt": True, "log_length": length})
        return
    say(f"State folded again from {number(length)} events and labels; the snapshots are new.")
    hint("penstock audit")
