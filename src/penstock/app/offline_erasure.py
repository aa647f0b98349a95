"""Forgetting in the offline tables: rows out of the newest versions, then the files of old ones off the disk.

A version that a data set names keeps its files, so data sets that held a forgotten row are marked first: they cannot be
made again. The others stay, since their versions never held it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from penstock.app.datasets import DatasetFolder
from penstock.app.exporting import offline_lock, offline_uri
from penstock.app.offline import vacuum_tables
from penstock.app.settings import OfflineSettings
from penstock.core.errors import MissingDependencyError
from penstock.kernel.columns import IntArray
from penstock.stores.offline import POSITION, OfflineStore, positions_predicates


@dataclass(frozen=True, slots=True)
class ErasedOffline:
    """Rows removed from the offline tables, and the data sets that cannot be made again."""

    rows: int = 0
    datasets: tuple[str, ...] = ()


class OfflineErasure:
    """The offline tables of a project while a key is forgotten: nobody exports meanwhile.

    Use it as a context manager around the erasure in the log: what is not exported yet must not be, before it is erased
    there.
    """

    def __init__(self, root: Path, settings: OfflineSettings, *, store_id: str) -> None:
        self._root = root
        self._uri = offline_uri(root, settings)
        self._store_id = store_id
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self._closing.enter_context(offline_lock(self._root))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def erase(self, positions: IntArray) -> ErasedOffline:
        """Remove the rows at log `positions`, of events and of their labels, from every table and every file.

        A label's row stands at its own position or, where it had waited, at its event's: one of `positions` either way.

        Raises `MissingDependencyError` where there are tables and deltalake is not installed.
        """
        if not len(positions) or not self._there():
            return ErasedOffline()
        store = OfflineStore(self._uri, store_id=self._store_id)
        rows = 0
        for name in store.names():
            rows += store.table(name).delete(positions_predicates(POSITION, positions))
        folder = DatasetFolder(self._root)
        reason = "a key that it held was forgotten"
        marked = folder.mark_forgotten(int(np.min(positions)), reason=reason)
        vacuum_tables(store, folder.versions_in_use(), retention_hours=0)
        return ErasedOffline(rows, tuple(marked))

    def _there(self) -> bool:
        """Whether there may be tables."""
        if "://" not in self._uri and not Path(self._uri).exists():
            return False
        if find_spec("deltalake") is None:
            raise MissingDependencyError(
                f"forget: there are offline tables in {self._uri}, and deltalake is not installed, so the key cannot be "
                "removed from them. Run: pip install 'penstock[offline]', then forget the key again."
            )
        return True
