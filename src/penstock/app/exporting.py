"""Exporting what is committed to the offline store, exactly once, beside a running engine or without one.

The store of the project is the outbox: log, decisions and labels stand in it by position. Each table says itself up to
which position it is complete (see `penstock.stores.offline`); the exporter reads on from there, in blocks of bounded
size. A crash at any moment leaves every table complete up to some position, from which the next export goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.app.applied import AppliedHistory
from penstock.app.offline_rows import Block, FeatureTypes, OfflineRows, known_types, problem_of
from penstock.app.runtime import open_reader, registry_of, state_folder
from penstock.app.settings import OfflineSettings, load_settings
from penstock.core.errors import ModelError, NotFoundError
from penstock.engine.recovery import Progress, no_progress
from penstock.stores.lock import WriterLock
from penstock.stores.offline import OfflineStore, TableVersion

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.engine.ports import LogReader
    from penstock.models.manifest import Manifest
    from penstock.plan.nodes import Plan

LOCK_WAIT_S = 60.0
GATHERED_ROWS = 1 << 12
"""Rows of small batches that become a table together: one costs about as much for one row as for a thousand."""


@dataclass(slots=True)
class Synced:
    """What an export did: the log's length then, rows appended and files compacted by table, and what it could not."""

    position: int
    rows: dict[str, int] = field(default_factory=dict)
    compacted: dict[str, int] = field(default_factory=dict)
    complete: bool = True
    problem: str | None = None

    @property
    def total(self) -> int:
        """Rows appended to all tables."""
        return sum(self.rows.values())


class Exporter:
    """Appends what is committed to the offline tables; remembers how far it read, so that idle tables cost nothing.

    Parameters
    ----------
    store
        A reader of its own, beside the engine's.
    """

    def __init__(
        self,
        store: LogReader,
        plan: Plan,
        offline: OfflineStore,
        *,
        settings: OfflineSettings,
        types: FeatureTypes,
    ) -> None:
        self._store = store
        self._settings = settings
        self._rows = OfflineRows(store, plan, types, most=min(GATHERED_ROWS, settings.block_rows))
        self._tables = {name: offline.table(name) for name in self._rows.tables()}
        self._seen: dict[str, int] = {}

    def sync(
        self,
        *,
        progress: Progress = no_progress,
        stop: Callable[[], bool] = bool,
    ) -> Synced:
        """Export everything that is committed now.

        Parameters
        ----------
        progress
            Called with (positions done, positions to do), over all tables.
        stop
            Asked after each block whether to leave the rest for later.
        """
        end = self._store.next_position
        synced = Synced(end)
        sources = self._rows.tables()
        for i, (name, rows) in enumerate(sources.items()):
            table = self._tables[name]
            table.refresh()
            start = table.exported()
            for upto, block in self._blocks(rows, max(start, self._seen.get(name, 0)), end):
                table.append(block, start=start, upto=upto)
                start = upto
                synced.rows[name] = synced.rows.get(name, 0) + block.num_rows
                progress(i * end + upto, len(sources) * end)
                if stop():
                    synced.complete = False
                    return synced
            self._seen[name] = end
            if name in synced.rows and table.surplus_files() >= self._settings.compact_files:
                synced.compacted[name] = table.compact()
        progress(len(sources) * end, len(sources) * end)
        synced.problem = problem_of(self._rows.unknown)
        return synced

    def versions(self) -> dict[str, TableVersion]:
        """By table that exists the version that holds everything exported so far."""
        return {name: table.at() for name, table in self._tables.items() if table.exists()}

    def _blocks(self, rows: Callable[[int, int], Iterator[Block]], start: int, end: int) -> Iterator[Block]:
        """The rows in blocks of about `block_rows`, each of one schema; the last one is complete up to the end."""
        import pyarrow as pa

        gathered: list[pa.Table] = []
        count, complete = 0, start
        for upto, table in rows(start, end):
            changed = bool(gathered) and gathered[0].schema != table.schema
            if changed or count >= self._settings.block_rows:
                yield complete, pa.concat_tables(gathered)
                gathered, count = [], 0
            complete = upto
            if table.num_rows:
                gathered.append(table)
                count += table.num_rows
        if gathered:
            yield end, pa.concat_tables(gathered)


def offline_uri(root: Path, settings: OfflineSettings) -> str:
    """Where the tables of the project in `root` are."""
    return settings.uri if "://" in settings.uri else str(root / settings.uri)


@contextmanager
def offline_lock(root: Path, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """The right to write to the offline tables of the project in `root`; waits for whoever has it."""
    lock = WriterLock(state_folder(root) / "offline.lock", what=f"offline store of {root}")
    lock.acquire(wait_s=wait_s)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def exporter_of(
    root: Path, plan: Plan, *, settings: OfflineSettings | None = None, wait_s: float = LOCK_WAIT_S
) -> Iterator[Exporter]:
    """An exporter for the project in `root`, which nobody else exports meanwhile."""
    chosen = settings or load_settings(root).offline
    with open_reader(root) as store, offline_lock(root, wait_s=wait_s):
        offline = OfflineStore(offline_uri(root, chosen), store_id=store.store_id)
        history = AppliedHistory(state_folder(root))
        types = known_types(plan, _manifests(root), lambda: [one.description for one in history.all()])
        yield Exporter(store, plan, offline, settings=chosen, types=types)


def _manifests(root: Path) -> Callable[[str], Manifest | None]:
    def manifest(label: str) -> Manifest | None:
        name, _, version = label.partition(":")
        try:
            return registry_of(root).get(name, version.partition("+")[0]).manifest()
        except (NotFoundError, ModelError):
            return None

    return manifest
