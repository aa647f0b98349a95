"""Looking after a project's offline tables: how they stand, small files into large ones, old files away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.app.datasets import DatasetFolder
from penstock.app.exporting import Synced, exporter_of, offline_lock, offline_uri
from penstock.app.runtime import open_reader, plan_of
from penstock.app.settings import load_settings
from penstock.definitions.project import load_project
from penstock.engine.recovery import Progress, no_progress
from penstock.stores.offline import OfflineStore, TableStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineStatus:
    """The tables, where they are, the log's length, and how many data sets name versions of them."""

    uri: str
    position: int
    tables: tuple[TableStatus, ...]
    datasets: int


def sync(root: Path, *, progress: Progress = no_progress) -> Synced:
    """Export everything that is committed in the project in `root`."""
    with exporter_of(root, plan_of(load_project(root))) as exporter:
        return exporter.sync(progress=progress)


def status(root: Path) -> OfflineStatus:
    """How the offline tables of the project in `root` stand."""
    store, position = store_of(root)
    return OfflineStatus(
        uri=store.uri,
        position=position,
        tables=tuple(store.table(name).status() for name in store.names()),
        datasets=len(DatasetFolder(root).all()),
    )


def compact(root: Path) -> dict[str, int]:
    """Rewrite small files of all tables as larger ones; how many were replaced, by table."""
    store, _ = store_of(root)
    with offline_lock(root):
        return {name: store.table(name).compact() for name in store.names()}


def vacuum(root: Path, *, retention_hours: int, dry_run: bool = False) -> dict[str, int]:
    """Remove files that no version in use needs, nor any that a data set names; how many, by table."""
    store, _ = store_of(root)
    kept = DatasetFolder(root).versions_in_use()
    with offline_lock(root):
        return vacuum_tables(store, kept, retention_hours=retention_hours, dry_run=dry_run)


def vacuum_tables(
    store: OfflineStore, kept: Mapping[str, set[int]], *, retention_hours: int, dry_run: bool = False
) -> dict[str, int]:
    """`vacuum` for whoever has the lock."""
    return {
        name: len(
            store.table(name).vacuum(
                keep=kept.get(name, ()), retention_hours=retention_hours, dry_run=dry_run
            )
        )
        for name in store.names()
    }


def store_of(root: Path) -> tuple[OfflineStore, int]:
    """The offline store of the project in `root`, and the log's length."""
    with open_reader(root) as reader:
        uri = offline_uri(root, load_settings(root).offline)
        return OfflineStore(uri, store_id=reader.store_id), reader.next_position
