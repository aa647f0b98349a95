"""Fields that events carry and the schema does not name: never fatal, but counted, since somebody sends them.

Decoding skips them without a word. So one event in `EVERY` is looked at again, which costs less than a hundredth of decoding them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from penstock.engine.contract import Decoded
from penstock.plan.nodes import SourceNode

EVERY = 256
MOST_NAMES, LONGEST_NAME = 20, 64
COUNTER = "unknown."
OTHERS = "(others)"

_NAMES = msgspec.json.Decoder(dict[str, msgspec.Raw])


class UnknownFields:
    """Counts unknown fields in a sample of the events of a plan's sources.

    Parameters
    ----------
    sources
        The plan's sources.
    counters
        The store's totals: names that are among them already have their place in the bound of `MOST_NAMES` a source.
    """

    def __init__(self, sources: Mapping[str, SourceNode], counters: Mapping[str, int]) -> None:
        self._known = {name: frozenset(f.name for f in source.fields) for name, source in sources.items()}
        self._counted = {
            source: {name for name in counters if name.startswith(f"{COUNTER}{source}.")}
            for source in sources
        }
        self._until_next = dict.fromkeys(sources, 0)

    def look(self, inputs: Sequence[tuple[str, Decoded]], found: dict[str, int]) -> None:
        """Add to the counts of a micro-batch: ``unknown.SOURCE.FIELD``, one for each event that has it."""
        for source, decoded in inputs:
            first = self._until_next[source]
            self._until_next[source] = first - decoded.received
            if first < decoded.received:
                for row in range(first, decoded.received, EVERY):
                    self._look_at(source, decoded, row, found)
                self._until_next[source] = (first - decoded.received) % EVERY

    def _look_at(self, source: str, decoded: Decoded, row: int, found: dict[str, int]) -> None:
        try:
            names = _NAMES.decode(decoded.original(row))
        except (msgspec.DecodeError, RecursionError, TypeError, ValueError):
            return  # no JSON object: a line of CSV, or what was refused anyway
        for name in names.keys() - self._known[source]:
            counter = self._counter(source, name)
            found[counter] = found.get(counter, 0) + 1

    def _counter(self, source: str, name: str) -> str:
        counter = f"{COUNTER}{source}.{name[:LONGEST_NAME]}"
        if counter not in self._counted[source]:
            if len(self._counted[source]) >= MOST_NAMES:
                return f"{COUNTER}{source}.{OTHERS}"
            self._counted[source].add(counter)
        return counter


def unknown_of(counters: Mapping[str, int], source: str) -> dict[str, int]:
    """By field the events among those looked at that had it, most first."""
    start = f"{COUNTER}{source}."
    found = {name.removeprefix(start): count for name, count in counters.items() if name.startswith(start)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
