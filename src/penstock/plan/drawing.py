"""A lineage as SVG: boxes in layers from left to right, with what they hold as rows. Pure; needs no library.

The layout is the usual one in four steps (Sugiyama, Tagawa and Toda 1981):

1. every box gets the layer after the last of those that lead to it;
2. an edge that a longer way implies is left out; one over several layers gets a place in each of those between, so that it
   passes boxes instead of crossing them;
3. within a layer boxes are ordered by the mean place of their neighbours, sweeping to and fro;
4. they are placed as near to their neighbours' height as the gaps allow.

Letters are of one width, so that the width of a text is known without a font. Colours follow the reader's light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from penstock.plan.lineage_graph import Lineage

LETTER, LINE, PAD = 7.3, 18, 12  # of 12 px monospaced text, a little generously
GAP_X, GAP_Y, MARGIN, MAX_ROWS = 64, 22, 24, 16
_SWEEPS = 12

_STYLE = """
:root { color-scheme: light dark }
svg { --page: #ffffff; --box: #f6f8fa; --line: #8c959f; --text: #1f2328; --faint: #57606a }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --box: #161b22; --line: #6e7681; --text: #e6edf3; --faint: #9198a1 }
}
.page { fill: var(--page) } .box { fill: var(--box); stroke: var(--line) }
.edge { fill: none; stroke: var(--line); stroke-width: 1.3 } .tip { fill: var(--line) }
text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: var(--text) }
.name { font-weight: 600 } .faint { fill: var(--faint) }
.source { fill: #0969da } .view { fill: #8250df } .service { fill: #1a7f37 } .model { fill: #bc4c00 } .endpoint { fill: #bf3989 }
.former { fill: var(--faint) }
"""


@dataclass(slots=True, eq=False)
class _Box:
    """A box, or, without a kind, the place where an edge passes its layer."""

    kind: str = ""
    name: str = ""
    words: str = ""
    rows: list[tuple[str, str]] = field(default_factory=list)
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0

    @property
    def needed_width(self) -> float:
        if not self.kind:
            return 0.0
        texts = [self.name, self.words, *(f"{left}   {right}" for left, right in self.rows)]
        return max(map(len, texts)) * LETTER + 2 * PAD

    @property
    def height(self) -> float:
        return (2 + len(self.rows)) * LINE + 2 * PAD - 4 if self.kind else 0.0

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


_Edge = tuple[_Box, _Box]


def draw(graph: Lineage) -> str:
    """The graph as one SVG document that stands alone; of a box with many rows the first are shown, and how many more."""
    boxes, edges = _boxes(graph)
    edges = _without_implied(edges)
    _set_layers(boxes.values(), edges)
    layers, routes = _layers(list(boxes.values()), edges)
    steps = [step for route in routes for step in pairwise(route)]
    before, after = _neighbours(steps)
    for sweep in range(_SWEEPS):
        _order(layers, before if sweep % 2 == 0 else after, forth=sweep % 2 == 0)
    _place(layers, before, after)
    return _svg(boxes.values(), routes)


def _boxes(graph: Lineage) -> tuple[dict[str, _Box], list[_Edge]]:
    """What stands alone as boxes, their parts as rows, and one edge where any goes between their parts."""
    boxes = {n.id: _Box(n.kind, n.name, n.type) for n in graph.nodes.values() if not n.of}
    box_of = dict(boxes)
    for node in graph.nodes.values():
        if node.of:
            box_of[node.id] = boxes[node.of]
            short = node.name.split(".", 1)[-1]
            boxes[node.of].rows.append((short, node.type))
    for box in boxes.values():
        if len(box.rows) > MAX_ROWS:
            more = len(box.rows) - MAX_ROWS + 1
            box.rows[MAX_ROWS - 1 :] = [(f"… and {more} more", "")]
    pairs = {
        (id(a), id(b)): (a, b) for a, b in ((box_of[s], box_of[e]) for s, e in graph.edges) if a is not b
    }
    return boxes, list(pairs.values())


def _without_implied(edges: list[_Edge]) -> list[_Edge]:
    """The edges between whose ends there is no longer way; what leads to what stays the same."""
    after: dict[int, list[_Box]] = {}
    for begin, end in edges:
        after.setdefault(id(begin), []).append(end)

    def leads(begin: _Box, end: _Box) -> bool:
        seen: set[int] = set()
        waiting = [box for box in after[id(begin)] if box is not end]
        while waiting:
            box = waiting.pop()
            if box is end:
                return True
            if id(box) not in seen:
                seen.add(id(box))
                waiting += after.get(id(box), ())
        return False

    return [(begin, end) for begin, end in edges if not leads(begin, end)]


def _set_layers(boxes: Iterable[_Box], edges: list[_Edge]) -> None:
    for _ in boxes:
        moved = False
        for begin, end in edges:
            if end.layer <= begin.layer:
                end.layer, moved = begin.layer + 1, True
        if not moved:
            return


def _layers(boxes: list[_Box], edges: list[_Edge]) -> tuple[list[list[_Box]], list[list[_Box]]]:
    """The boxes and bends of each layer, and the way of each edge through them."""
    layers: list[list[_Box]] = [[] for _ in range(1 + max((box.layer for box in boxes), default=0))]
    for box in boxes:
        layers[box.layer].append(box)
    routes = []
    for begin, end in edges:
        bends = [_Box(layer=layer) for layer in range(begin.layer + 1, end.layer)]
        for bend in bends:
            layers[bend.layer].append(bend)
        routes.append([begin, *bends, end])
    return layers, routes


def _neighbours(steps: list[_Edge]) -> tuple[dict[int, list[_Box]], dict[int, list[_Box]]]:
    before: dict[int, list[_Box]] = {}
    after: dict[int, list[_Box]] = {}
    for begin, end in steps:
        before.setdefault(id(end), []).append(begin)
        after.setdefault(id(begin), []).append(end)
    return before, after


def _order(layers: list[list[_Box]], beside: Mapping[int, list[_Box]], *, forth: bool) -> None:
    for layer in layers if forth else reversed(layers):
        place = {id(box): i for one in layers for i, box in enumerate(one)}

        def mean(box: _Box, place: dict[int, int] = place) -> float:
            near = beside.get(id(box), ())
            return sum(place[id(one)] for one in near) / len(near) if near else place[id(box)]

        layer.sort(key=mean)


def _place(
    layers: list[list[_Box]], before: Mapping[int, list[_Box]], after: Mapping[int, list[_Box]]
) -> None:
    x = float(MARGIN)
    for layer in layers:
        width = max((box.needed_width for box in layer), default=0.0)
        y = 0.0
        for box in layer:
            box.x, box.y, box.width = x, y, width
            y += box.height + GAP_Y
        x += width + GAP_X
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        for layer in layers if forth else reversed(layers):
            _settle(layer, before if forth else after)
    top = min((box.y for layer in layers for box in layer), default=0.0)
    for layer in layers:
        for box in layer:
            box.y += MARGIN - top


def _settle(layer: list[_Box], beside: Mapping[int, list[_Box]]) -> None:
    """Move the boxes of a layer towards their neighbours, keeping order and gaps."""
    if not layer:
        return
    wanted = []
    for box in layer:
        near = beside.get(id(box), ())
        middle = sum(one.middle for one in near) / len(near) if near else box.middle
        wanted.append(middle - box.height / 2)
    bottom = float("-inf")
    for box, y in zip(layer, wanted, strict=True):
        box.y = max(y, bottom)
        bottom = box.y + box.height + GAP_Y
    shift = sum(y - box.y for box, y in zip(layer, wanted, strict=True)) / len(layer)
    for box in layer:
        box.y += shift


def _svg(boxes: Iterable[_Box], routes: list[list[_Box]]) -> str:
    shown = list(boxes)
    bends = [box for route in routes for box in route]
    width = max((box.x + box.width for box in shown), default=0.0) + MARGIN
    height = max((box.y + box.height for box in [*shown, *bends]), default=0.0) + MARGIN
    size = f'width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" {size} role="img">',
        f"<title>Lineage</title><style>{_STYLE}</style>",
        f'<rect class="page" {size}/>',
        *(_edge(route) for route in routes),
        *(_box(box) for box in shown),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _edge(route: list[_Box]) -> str:
    begin, end = route[0], route[-1]
    x, y = begin.x + begin.width, begin.middle
    path = [f"M{x:.1f},{y:.1f}"]
    for stop in route[1:]:
        half = (stop.x + x) / 2
        to = stop.x - 5 * (stop is end)
        path.append(f"C{half:.1f},{y:.1f} {half:.1f},{stop.middle:.1f} {to:.1f},{stop.middle:.1f}")
        if stop is not end:
            path.append(f"H{stop.x + stop.width:.1f}")
        x, y = stop.x + stop.width, stop.middle
    tip = f"M{end.x:.1f},{y:.1f}l-8,-4v8z"
    return f'<path class="edge" d="{"".join(path)}"/><path class="tip" d="{tip}"/>'


def _box(box: _Box) -> str:
    left, right = box.x + PAD, box.x + box.width - PAD
    y = box.y + PAD + LINE / 2
    texts = [
        f'<text class="name" x="{left:.1f}" y="{y:.1f}">{escape(box.name)}</text>',
        f'<text class="faint" x="{left:.1f}" y="{y + LINE:.1f}">{escape(box.words)}</text>',
    ]
    for i, (name, words) in enumerate(box.rows, 2):
        texts.append(f'<text x="{left:.1f}" y="{y + i * LINE:.1f}">{escape(name)}</text>')
        texts.append(
            f'<text class="faint" text-anchor="end" x="{right:.1f}" y="{y + i * LINE:.1f}">{escape(words)}</text>'
        )
    return (
        f'<rect class="box" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="6"/>'
        f'<rect class="{box.kind}" x="{box.x:.1f}" y="{box.y:.1f}" width="4" height="{box.height:.1f}" rx="2"/>'
        + "".join(texts)
    )
