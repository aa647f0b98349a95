"""API keys of a project, kept as digests: whoever reads the file learns no key.

A key is ``pst_<id>_<secret>``. The id is public and names the key everywhere; the secret is 32 random bytes, of which only the SHA-256 is
kept. That is enough for a secret that nobody can guess: slow hashes are for passwords.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError, NotFoundError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PREFIX = "pst"
BUSY_TIMEOUT_S = 10.0
_SECRET_BYTES, _ID_BYTES = 32, 5

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    scopes TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER,
    rate REAL
) STRICT;
CREATE TRIGGER IF NOT EXISTS keys_are_never_deleted BEFORE DELETE ON keys
BEGIN SELECT RAISE(ABORT, 'a key is revoked, not deleted'); END;
CREATE TRIGGER IF NOT EXISTS revoked_for_good BEFORE UPDATE ON keys
WHEN OLD.revoked_us IS NOT NULL OR OLD.digest <> NEW.digest OR OLD.scopes <> NEW.scopes OR OLD.expires_us IS NOT NEW.expires_us
BEGIN SELECT RAISE(ABORT, 'a key only changes by being revoked'); END;
"""
_COLUMNS = "id, name, digest, scopes, created_us, expires_us, revoked_us, rate"


class Scope(StrEnum):
    """What a key may do. `ADMIN` may do everything."""

    READ = "read"
    SCORE = "score"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known about a key.

    Attributes
    ----------
    key_id, name, scopes
        Its public name, what people call it, and what it may do.
    digest
        SHA-256 of its secret.
    created_us, expires_us, revoked_us
        Microseconds; None where it does not expire, or is not revoked.
    rate
        Requests a second that it may make; None for as many as the server gives anybody.
    """

    key_id: str
    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[Scope]
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None
    rate: float | None = None

    def state(self, now_us: int) -> str:
        """``"live"``, ``"expired"`` or ``"revoked"``."""
        if self.revoked_us is not None:
            return "revoked"
        return "expired" if self.expires_us is not None and self.expires_us <= now_us else "live"


def digest_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def new_key(
    name: str,
    scopes: Sequence[Scope],
    *,
    now_us: int,
    expires_us: int | None = None,
    rate: float | None = None,
) -> tuple[ApiKey, str]:
    """A key and its text, which is kept nowhere."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    key = ApiKey(key_id, name, digest_of(secret), frozenset(scopes), now_us, expires_us, None, rate)
    return key, f"{PREFIX}_{key_id}_{secret}"


def split_key(text: str) -> tuple[str, str] | None:
    """Id and secret of the text of a key; None where it is none.

    >>> split_key("pst_0a1b2c3d4e_s3cr_t"), split_key("hello")
    (('0a1b2c3d4e', 's3cr_t'), None)
    """
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == PREFIX and key_id and secret else None


class KeyStore:
    """The keys in one file. Several processes may use it.

    Parameters
    ----------
    path
        Created with the first key, readable by its owner only.
    timeout_s
        How long to wait for another process that writes.
    """

    def __init__(self, path: Path, *, timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def add(self, key: ApiKey) -> None:
        """Keep a new key, durable on return."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(0o600)
        values = (key.key_id, key.name, key.digest, ",".join(sorted(key.scopes)), key.created_us, key.expires_us,
                  key.revoked_us, key.rate)  # fmt: skip
        with self._connect() as connection:
            connection.executescript(_SCHEMA)
            connection.execute(f"INSERT INTO keys ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)", values)

    def revoke(self, key_id: str, now_us: int) -> ApiKey:
        """End a key for good, durable on return.

        Raises
        ------
        NotFoundError
            There is no key of this id.
        InputError
            It is revoked already.
        """
        key = self.key(key_id)
        if key.revoked_us is not None:
            raise InputError(f"key {key_id} ({key.name}): it is revoked already; nothing is left to do.")
        with self._connect() as connection:
            connection.execute("UPDATE keys SET revoked_us = ? WHERE id = ?", (now_us, key_id))
        return replace(key, revoked_us=now_us)

    def key(self, key_id: str) -> ApiKey:
        """The key of an id; raises `NotFoundError` where there is none."""
        found = {key.key_id: key for key in self.all()}
        if key_id not in found:
            raise NotFoundError(
                f"key {key_id[:16]!r} does not exist; there are {', '.join(found) or 'none'}. `penstock keys list` shows them."
            )
        return found[key_id]

    def all(self) -> list[ApiKey]:
        """All keys, also revoked and expired ones, oldest first."""
        if not self._path.exists():
            return []
        with self._connect() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'keys'").fetchone():
                return []
            rows = connection.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created_us, id").fetchall()
        return [_key_of(row) for row in rows]

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.Error as error:
            raise StoreError(
                f"keys {self._path}: {error}. Check that the folder is writable and no other process holds it; a damaged file "
                "must be restored from a backup."
            ) from error


def _key_of(row: tuple[Any, ...]) -> ApiKey:
    key_id, name, digest, scopes, *rest = row
    return ApiKey(key_id, name, digest, frozenset(map(Scope, scopes.split(","))), *rest)
