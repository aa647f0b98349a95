"""PostgreSQL's errors as ours: what was being done to which store, and what to do next."""

from __future__ import annotations

from types import TracebackType

import psycopg

from penstock.core.errors import AwayError, CorruptionError, StoreError

# Classes and codes of https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY = (
    "08",  # the connection
    "57P01", "57P02", "57P03",  # the server stops, crashed, or starts
    "57014", "25P03", "55P03",  # a statement, an idle transaction, or a lock took too long
    "40",  # rolled back to let another go on
    "53300",  # too many connections
)  # fmt: skip
_MISSING = ("3F000", "42P01")  # no such schema, no such table
_DAMAGED = ("XX001", "XX002")


def is_away(error: BaseException) -> bool:
    """Whether a driver's error says that the server is away, rather than that it refused something."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError):
        return False
    if error.sqlstate is None:  # the driver's own: there was no answer
        return True
    return error.sqlstate.startswith(_AWAY)


def is_missing(error: BaseException) -> bool:
    """Whether a driver's error says that there are no such tables."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _MISSING


class translated:  # noqa: N801 - used like a function
    """Raise the driver's errors as ours."""

    __slots__ = ("_doing", "_store")

    def __init__(self, store: object, doing: str) -> None:
        self._store = store
        self._doing = doing

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, psycopg.Error):
            return
        doing, said = f"store {self._store}: {self._doing}", _first_line(error)
        if is_away(error):
            raise AwayError(
                f"{doing} failed: {said}. Check that the server runs and can be reached."
            ) from error
        if error.sqlstate in _DAMAGED:
            raise CorruptionError(
                f"{doing} failed: the database is damaged ({said}). Restore it from a backup."
            ) from error
        raise StoreError(f"{doing} failed: {said} ({error.sqlstate}). {_advice(error.sqlstate)}") from error


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _advice(state: str | None) -> str:
    if state is None:
        return "What was acknowledged before is kept."
    if state.startswith("53"):
        return "Nothing of it was stored. Free disk space or memory on the server and start again."
    if state.startswith("28"):
        return "Correct the user or password in [store] url, or PENSTOCK_STORE__URL."
    if state == "3D000":
        return "Create the database, or correct [store] url."
    if state == "42501":
        return "Grant the user the right to create schemas in the database, or make the tables with `penstock migrate` as another."
    return "What was acknowledged before is kept."
