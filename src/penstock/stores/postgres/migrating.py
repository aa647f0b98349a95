"""The tables of a store in PostgreSQL: made and brought up to date by Alembic, under the writer's lock.

Alembic and SQLAlchemy are only loaded where there is something to do.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from penstock.core.errors import MissingDependencyError, StoreError
from penstock.stores.postgres.errors import is_missing
from penstock.stores.schema import StoreIdentity

if TYPE_CHECKING:
    from penstock.stores.postgres.session import Session
    from penstock.stores.postgres.target import Target

NEWEST = "0002"
"""The step that this version of Penstock needs: the newest in `migrations/versions`."""


_ONE_AT_A_TIME = Lock()  # Alembic keeps what it works on in globals of its modules
_IDENTITY = "INSERT INTO meta SELECT %s, %s WHERE NOT EXISTS (SELECT 1 FROM meta)"


def version_of(session: Session) -> str | None:
    """The step that the tables are at; None where there are none."""
    try:
        row = session.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.Error as error:
        if is_missing(error):
            return None
        raise
    return None if row is None else str(row[0])


def _make_schema(session: Session, target: Target) -> None:
    """Make the schema where there is none; it needs no right where there is one."""
    known = session.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (target.schema,)).fetchone()
    if known is None:
        session.driver.execute(
            sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(target.schema))
        )


def migrate(session: Session, target: Target) -> tuple[str | None, str]:
    """Bring the tables up to date, holding the writer's lock; returns the steps before and after.

    Raises
    ------
    StoreError
        A newer Penstock made them.
    MissingDependencyError
        Alembic is not installed.
    """
    before = version_of(session)
    if before is not None and before > NEWEST:
        raise _newer(target, before)
    if before != NEWEST:
        _make_schema(session, target)
        _run(target)
    if before == NEWEST:  # by hand, perhaps
        session.execute(_IDENTITY.replace("%s", "?"), _identity())
    return before, NEWEST


def check(session: Session, target: Target) -> StoreIdentity:
    """Who the store is; raises `StoreError` where its tables are missing, older or newer."""
    found = version_of(session)
    if found is None:
        raise StoreError(
            f"store {target}: nothing is there; this project has never run. Start it with `penstock up` or `penstock run`."
        )
    if found > NEWEST:
        raise _newer(target, found)
    if found < NEWEST:
        raise StoreError(
            f"store {target}: its tables are those of an older Penstock (step {found}, {NEWEST} needed). Run `penstock migrate`."
        )
    row = session.execute("SELECT store_id, hash_seed FROM meta").fetchone()
    if row is None:
        raise StoreError(f"store {target}: it was made half. Run `penstock migrate`.")
    return StoreIdentity(*row)


def statements(target: Target) -> str:
    """All steps as SQL, for somebody who makes the tables by hand."""
    import io

    out = io.StringIO()
    command, config = _alembic(target, None, out)
    command.upgrade(config, NEWEST, sql=True)
    return out.getvalue()


def _newer(target: Target, found: str) -> StoreError:
    return StoreError(
        f"store {target}: written by a newer Penstock (step {found}; this one knows up to {NEWEST}). Upgrade with "
        "`pip install -U penstock`."
    )


def _run(target: Target) -> None:
    from penstock.stores.postgres.session import Session

    command, config = _alembic(target, None, None)
    import sqlalchemy
    from sqlalchemy.pool import NullPool

    def connected() -> Any:
        driver = Session(target, access="write").driver
        driver.autocommit = False
        return driver

    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=connected, poolclass=NullPool)
    with _ONE_AT_A_TIME, engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, NEWEST)
        connection.exec_driver_sql(_IDENTITY, _identity())


def _identity() -> tuple[str, int]:
    return secrets.token_hex(16), secrets.randbits(63)


def _alembic(target: Target, connection: object, out: Any) -> tuple[Any, Any]:
    try:
        from alembic import command
        from alembic.config import Config
    except ImportError as error:
        raise MissingDependencyError(
            "store in PostgreSQL: alembic is not installed. Run: pip install 'penstock[postgres]'."
        ) from error
    config = Config(output_buffer=out) if out is not None else Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["schema"] = target.schema
    return command, config
