"""Which database holds a project's log, decisions and labels: a SQLite file, or PostgreSQL where ``[store] url`` says so."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.app.settings import Settings, load_settings
from penstock.core.errors import MissingDependencyError, SettingsError
from penstock.stores.connection import ConnectionFactory, connect
from penstock.stores.postgres.target import Target
from penstock.stores.reader import ProjectReader
from penstock.stores.snapshots import SnapshotStore
from penstock.stores.sqlite import ProjectStore
from penstock.stores.writing import WritableStore

if TYPE_CHECKING:
    from penstock.app.settings import StoreSettings
    from penstock.app.snapshotting import Snapshots

STATE_FOLDER = ".penstock"

READ_PATIENCE_S = 2.0
"""How long a read for which somebody waits goes on asking a server that is away."""


def state_folder(root: Path) -> Path:
    """Where the project in `root` keeps what the running system needs."""
    return root / STATE_FOLDER


def shard_folder(root: Path, shard: str = "") -> Path:
    """Where what belongs to one shard of the project in `root` is kept; "" is a project that is whole."""
    return state_folder(root) / "shards" / shard if shard else state_folder(root)


def store_path(root: Path, shard: str = "") -> Path:
    """The SQLite file with the log, decisions and labels of the project in `root`, or of one of its shards."""
    return shard_folder(root, shard) / "penstock.db"


def open_store(
    root: Path,
    settings: Settings,
    *,
    shard: str = "",
    take_over: bool = False,
    connection_factory: ConnectionFactory = connect,
) -> WritableStore:
    """The store of the project in `root`, for writing.

    Parameters
    ----------
    shard
        Which of the project's stores; "" where it has one.
    take_over
        Whether to end another writer of a store in PostgreSQL instead of being refused.
    connection_factory
        Opens the connections to a SQLite file; tests put a failing disk under it.
    """
    target = target_of(settings.store, shard)
    engine = settings.engine
    if target is None:
        return ProjectStore.open(
            store_path(root, shard),
            durability=engine.durability,
            max_dead_letters=engine.max_dead_letters,
            max_pending_labels=engine.max_pending_labels,
            connection_factory=connection_factory,
        )
    _check_driver()
    from penstock.stores.postgres.store import PostgresStore

    return PostgresStore.open_writer(
        target,
        durability=engine.durability,
        take_over=take_over,
        migrate=settings.store.migrate,
        patience_s=settings.store.patience_s,
        max_dead_letters=engine.max_dead_letters,
        max_pending_labels=engine.max_pending_labels,
    )


def open_reader(root: Path, shard: str = "", *, patient: bool = False) -> ProjectReader:
    """The project's store for reading, beside a running engine or without one.

    With `patient` a read waits for a server that is away as long as a commit does: for processes in which nobody waits for an answer.
    """
    settings = load_settings(root).store
    target = target_of(settings, shard)
    if target is None:
        return ProjectReader.open_reader(store_path(root, shard))
    _check_driver()
    from penstock.stores.postgres.store import PostgresReader

    return PostgresReader.open(target, patience_s=settings.patience_s if patient else READ_PATIENCE_S)


def has_run(root: Path) -> bool:
    """Whether the project in `root` has a store yet; raises `StoreError` where its server is away."""
    target = target_of(load_settings(root).store)
    if target is None:
        return store_path(root).exists()
    _check_driver()
    from penstock.stores.postgres.errors import translated
    from penstock.stores.postgres.migrating import version_of
    from penstock.stores.postgres.session import Session

    with translated(target, "looking at"), closing(Session(target, access="read")) as session:
        return version_of(session) is not None


def snapshots_of(root: Path, settings: Settings, *, store_id: str, shard: str = "") -> Snapshots:
    """Where the snapshots of a store lie: in files beside a SQLite file, else in the database."""
    target = target_of(settings.store, shard)
    if target is None:
        return SnapshotStore(shard_folder(root, shard) / "snapshots", store_id=store_id)
    _check_driver()
    from penstock.stores.postgres.snapshots import PostgresSnapshots

    return PostgresSnapshots(target)


def target_of(settings: StoreSettings, shard: str = "") -> Target | None:
    """The database that the settings name; None for a SQLite file."""
    if settings.url is None:
        return None
    return Target(
        settings.url,
        settings.namespace,
        connect_timeout_s=settings.connect_timeout_s,
        statement_timeout_s=settings.statement_timeout_s,
    ).shard(shard)


def migrate(root: Path) -> tuple[str, str | None, str]:
    """Bring the tables of the project in `root` up to date; returns the store, and its steps before and after.

    Raises
    ------
    SettingsError
        The project's store is a SQLite file, which has no steps.
    StoreError
        A process writes to the store, or a newer Penstock made its tables.
    """
    target = _needed_target(root)
    _check_driver()
    from penstock.stores.postgres import migrating
    from penstock.stores.postgres.errors import translated
    from penstock.stores.postgres.fencing import Fence
    from penstock.stores.postgres.session import Session

    with translated(target, "migrating"), closing(Session(target, access="write")) as session:
        Fence(session, target).lock(take_over=False)
        before, after = migrating.migrate(session, target)
    return str(target), before, after


def migration_sql(root: Path) -> str:
    """All steps of the tables as SQL, for somebody who makes them by hand."""
    target = _needed_target(root)
    _check_driver()
    from penstock.stores.postgres.migrating import statements

    return statements(target)


def _needed_target(root: Path) -> Target:
    target = target_of(load_settings(root).store)
    if target is None:
        raise SettingsError(
            f"migrate: the store of {root} is a SQLite file, which is made when the project runs. Set [store] url for PostgreSQL."
        )
    return target


def _check_driver() -> None:
    try:
        import psycopg  # noqa: F401 - whether it is there
    except ImportError as error:
        raise MissingDependencyError(
            "[store] url names PostgreSQL, and psycopg is not installed. Run: pip install 'penstock[postgres]'."
        ) from error
