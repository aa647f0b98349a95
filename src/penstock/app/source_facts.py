"""How many rows of each source there are, and how new the newest is. Each look reads what came since the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from penstock.engine.lookup import RowReader
from penstock.kernel.columns import Numeric

if TYPE_CHECKING:
    from penstock.core.records import LogBatch
    from penstock.engine.schema_versions import SchemaVersion
    from penstock.plan.nodes import SourceNode
    from penstock.stores.reader import ProjectReader


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a source's rows; times are None while it has none.

    Attributes
    ----------
    rows
        In the log.
    newest_us
        The latest event time of the batch that came last.
    received_us
        When that batch came.
    """

    rows: int = 0
    newest_us: int | None = None
    received_us: int | None = None


class SourceWatch:
    """Looks at the sources of a store; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._store_id = ""
        self._looked = 0
        self._facts: dict[str, SourceFacts] = {}

    def look(
        self,
        store: ProjectReader,
        sources: Mapping[str, SourceNode],
        versions: Mapping[str, Sequence[SchemaVersion]],
    ) -> dict[str, SourceFacts]:
        """The facts of `sources`, whose events were accepted under the schemas `versions`."""
        with self._lock:
            if store.store_id != self._store_id:
                self._store_id, self._looked, self._facts = store.store_id, 0, {}
            end = store.next_position
            for name, rows in store.row_counts(self._looked).items() if end > self._looked else ():
                before = self._facts.get(name, SourceFacts())
                batch = store.newest_log_batch(name, start=self._looked)
                node = sources.get(name)
                newest = None if batch is None or node is None else _newest(store, node, batch, versions)
                self._facts[name] = SourceFacts(
                    before.rows + rows,
                    before.newest_us if newest is None else newest,
                    before.received_us if batch is None else batch.ingest_time_us,
                )
            self._looked = end
            return {name: self._facts.get(name, SourceFacts()) for name in sources}


def _newest(
    store: ProjectReader,
    node: SourceNode,
    batch: LogBatch,
    versions: Mapping[str, Sequence[SchemaVersion]],
) -> int | None:
    rows = RowReader(store, {node.name: node})
    rows.versions = versions
    times = rows.events(node.name, batch.positions)[node.time_field]
    assert isinstance(times, Numeric)
    known = times.values if times.valid is None else times.values[times.valid]
    return int(known.max()) if len(known) else None
