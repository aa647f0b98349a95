"""``penstock lineage``: what something is made from, and what is made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.catalog import beside, print_side
from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, print_json, say
from penstock.core.errors import InputError


def lineage(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A source, column, view, feature, service, model, version or endpoint; default: everything.",
        ),
    ] = None,
    upstream: Annotated[bool, typer.Option("--upstream", help="Only what it is made from.")] = False,
    downstream: Annotated[bool, typer.Option("--downstream", help="Only what is made from it.")] = False,
    svg: Annotated[Path | None, typer.Option("--svg", help="Draw it to this file.")] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Print what something is made from, and what from it.

    From the columns of sources through views, features and services to models and endpoints.
    """
    from penstock.app.catalog import catalog

    whole = catalog(project_root(project))
    if name is None and (upstream or downstream):
        raise InputError(
            "lineage: --upstream and --downstream look from a NAME, and none is given. Name something."
        )
    both = upstream == downstream
    graph = (
        whole
        if name is None
        else whole.around(name, upstream=upstream or both, downstream=downstream or both)
    )
    if svg is not None:
        from penstock.plan.drawing import draw

        svg.parent.mkdir(parents=True, exist_ok=True)
        svg.write_text(draw(graph), "utf-8")
    if as_json:
        print_json({"of": None if name is None else whole.find(name).id, **graph.to_dict()})
        return
    if name is None:
        print_side("everything", list(graph.nodes.values()))
    else:
        node = whole.find(name)
        say(f"{node.kind} {node.name}" + (f", {node.type}" if node.type else ""))
        for side, wanted in (("upstream", upstream), ("downstream", downstream)):
            if wanted or both:
                print_side(side, beside(whole, node, side))
    if svg is not None:
        say(f"\ndrawn in {svg}")
    else:
        hint(f"penstock lineage {name or ''}{' ' if name else ''}--svg lineage.svg")
