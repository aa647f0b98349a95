"""The lineage graph: what data come from and go to, by id, and which leads to which. Pure; `penstock.plan.lineage` builds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from penstock.core.errors import NotFoundError
from penstock.plan.origins import Origin
from penstock.plan.watching import KINDS as WATCHING

CATALOG_KINDS = ("source", "view", "feature", "service", "model", "endpoint", *WATCHING)
KINDS = (
    "source",
    "column",
    "view",
    "feature",
    "service",
    "former",
    "model",
    "version",
    "endpoint",
    *WATCHING,
)
"""``former`` is what is defined no more, or otherwise, and a version was made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Something that data come from or go to.

    Attributes
    ----------
    id
        ``kind:name``, unique in the graph.
    kind
        One of `KINDS`.
    type
        What exactly it is: a column's or feature's data type, a version's stage, a few words otherwise.
    of
        The id of the source, view or model that it is a part of; empty for the others.
    """

    id: str
    kind: str
    name: str
    type: str = ""
    description: str = ""
    owner: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    of: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The node as JSON values."""
        return {**asdict(self), "tags": dict(self.tags)}

    def matches(self, search: str) -> bool:
        """Whether each word of `search` is in its name, words or tags, in any case.

        >>> Node(id="view:spending", kind="view", name="spending", tags=(("team", "risk"),)).matches(
        ...     "VIEW team=risk"
        ... )
        True
        """
        tags = " ".join(f"{name}={value}" for name, value in self.tags)
        text = f"{self.id} {self.type} {self.description} {self.owner} {tags}".casefold()
        return all(word in text for word in search.casefold().split())


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version of a model: its number and its stage, and what it was made from, where that is known.

    `in_force` says that its features are computed so now; `data` tells of what it was trained on, in words.
    """

    number: int
    stage: str
    origin: Origin | None = None
    in_force: bool = True
    data: str = ""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Nodes by id, in the order in which data flow, and edges between their ids."""

    nodes: Mapping[str, Node]
    edges: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """The graph as JSON values."""
        return {
            "nodes": [node.to_dict() for node in self.nodes.values()],
            "edges": [{"from": start, "to": end} for start, end in self.edges],
        }

    def find(self, name: str) -> Node:
        """The node with an id or a name, rather what is watched than what watches it; raises `NotFoundError` where there is none, or several."""
        if name in self.nodes:
            return self.nodes[name]
        found = [node for node in self.nodes.values() if node.name == name]
        if len(found) > 1:  # guards, and often monitors, are called as what they watch
            found = [node for node in found if node.kind not in WATCHING] or found
        found = found or [node for node in self.nodes.values() if node.name.endswith(f".{name}")]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(node.id for node in found[:8])
            raise NotFoundError(f"lineage: {name!r} names {len(found)} things: {listed}. Give one of these.")
        tops = [node.name for node in self.nodes.values() if not node.of]
        raise NotFoundError(f"lineage: nothing is named {name!r}; there are {', '.join(tops)}. Choose one.")

    def around(self, name: str, *, upstream: bool = True, downstream: bool = True) -> Lineage:
        """The part of the graph that leads to `name`, or that it leads to, or both.

        A source, view or model stands for all of its parts; a part brings with it what it is a part of.
        """
        start = self.find(name)
        parts = {node.id for node in self.nodes.values() if node.of == start.id} | {start.id}
        kept = set(parts)
        if upstream:
            kept |= _reached(parts, self.edges)
        if downstream:
            kept |= _reached(parts, [(end, begin) for begin, end in self.edges])
        kept |= {self.nodes[one].of for one in kept} - {""}
        return Lineage(
            {one: node for one, node in self.nodes.items() if one in kept},
            tuple((begin, end) for begin, end in self.edges if begin in kept and end in kept),
        )


def _reached(start: set[str], edges: Iterable[tuple[str, str]]) -> set[str]:
    """What leads to `start` along `edges`, `start` itself left out."""
    before: dict[str, list[str]] = {}
    for begin, end in edges:
        before.setdefault(end, []).append(begin)
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        for one in before.get(waiting.pop(), ()):
            if one not in found:
                found.add(one)
                waiting.append(one)
    return found
