"""``penstock catalog``: what a project defines, searchable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from penstock.plan.lineage_graph import Lineage, Node


class _ListByDefault(TyperGroup):
    """``catalog card`` is ``catalog list card``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Put in ``list`` where no command is named."""
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            args = ["list", *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(
    cls=_ListByDefault,
    rich_markup_mode=None,
    help="What the project defines: owners, descriptions, tags.",
)


@commands.command("list")
def list_entries(
    search: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SEARCH]...", help="Words that name, type, text, owner or tags must all hold."
        ),
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """List sources, views, features, services, models, endpoints.

    `list` may be left out: penstock catalog card team=risk
    """
    from penstock.app.catalog import catalog
    from penstock.plan.lineage_graph import CATALOG_KINDS

    graph = catalog(project_root(project))
    words = " ".join(search or [])
    found = [n for n in graph.nodes.values() if n.kind in CATALOG_KINDS and n.matches(words)]
    if as_json:
        print_json([node.to_dict() for node in found])
        return
    for kind in CATALOG_KINDS:
        _print_kind(kind, [node for node in found if node.kind == kind])
    say(f"{len(found)} found" + (f" for {words!r}" if words else ""))
    hint(f"penstock catalog show {found[0].name}" if found else "penstock catalog")


def _print_kind(kind: str, nodes: list[Node]) -> None:
    """A table; features a table a view, since their names are long."""
    for top in dict.fromkeys(node.of for node in nodes):
        some = [node for node in nodes if node.of == top]
        title = f"{kind} of {top.partition(':')[2]}" if top else kind
        print_entries(title, some)
        say()


def print_entries(title: str, nodes: list[Node]) -> None:
    """A table of nodes; a column in which nothing stands is left out."""
    columns = {
        title: [node.name.rpartition(".")[2] for node in nodes],
        "type": [node.type for node in nodes],
        "owner, tags": [_owner(node) for node in nodes],
        "description": [node.description.partition("\n")[0] for node in nodes],
    }
    shown = {head: cells for head, cells in columns.items() if any(cells)}
    print_table(list(zip(*shown.values(), strict=True)), head=tuple(shown))


def _owner(node: Node) -> str:
    return ", ".join(filter(None, (node.owner, *(f"{name}={value}" for name, value in node.tags))))


@commands.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Any name, or KIND:NAME where several things have it.")
    ],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Show one entry: its words, its parts, what is beside it."""
    from penstock.app.catalog import catalog

    graph = catalog(project_root(project))
    node = graph.find(name)
    parts = [one for one in graph.nodes.values() if one.of == node.id]
    sides = {side: beside(graph, node, side) for side in ("upstream", "downstream")}
    if as_json:
        near = {side: [one.id for one in nodes] for side, nodes in sides.items()}
        print_json({**node.to_dict(), "parts": [one.to_dict() for one in parts], **near})
        return
    say(f"{node.kind} {node.name}")
    facts = [
        ("type", node.type),
        ("part of", graph.nodes[node.of].name if node.of else ""),
        ("owner", node.owner),
        ("tags", ", ".join(f"{tag}={value}" for tag, value in node.tags)),
        ("description", " ".join(node.description.split())),
    ]
    print_facts([fact for fact in facts if fact[1]])
    if parts:
        say()
        print_entries("part", parts)
    for side, nodes in sides.items():
        print_side(side, nodes)
    hint(f"penstock lineage {node.id}")


def beside(graph: Lineage, node: Node, side: str) -> list[Node]:
    """What leads to `node` (side upstream) or what it leads to, without the node and its own parts."""
    around = graph.around(node.id, upstream=side == "upstream", downstream=side == "downstream")
    return [one for one in around.nodes.values() if node.id not in {one.id, one.of} and one.id != node.of]


def print_side(side: str, nodes: list[Node]) -> None:
    """The nodes on one side, a line a kind."""
    from penstock.plan.lineage_graph import KINDS

    say(f"\n{side}" + ("" if nodes else ": nothing"))
    by_kind = [(kind, [one.name for one in nodes if one.kind == kind]) for kind in KINDS]
    print_facts([(f"  {kind}", ", ".join(names)) for kind, names in by_kind if names])
