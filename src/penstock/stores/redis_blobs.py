"""Bytes by name in Redis or Valkey, each as of a log position: an older one never takes the place of a newer one.

A value is the position, eight bytes, and behind it the bytes. Scripts compare and set on the server. Every call ends in time: no retries, a timeout for
connecting and for each answer, and after a failure nobody waits for the server again for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from penstock.core.errors import MissingDependencyError, StoreError

if TYPE_CHECKING:
    from redis import Redis

PAUSE_S = 0.5
"""How long the server is left alone after it did not answer."""
_POSITION_BYTES = 8
_SCANNED = 1_000

# Positions are below 2^53, so that Lua's numbers hold them.
_PUT = """
for i, name in ipairs(KEYS) do
  local old = redis.call('GETRANGE', name, 0, 7)
  if #old < 8 or struct.unpack('>I8', old) <= struct.unpack('>I8', ARGV[i]) then
    redis.call('SET', name, ARGV[i])
  end
end
"""
_DELETE = """
for i, name in ipairs(KEYS) do
  local old = redis.call('GETRANGE', name, 0, 7)
  if #old < 8 or struct.unpack('>I8', old) <= tonumber(ARGV[1]) then
    redis.call('DEL', name)
  end
end
"""


class RedisBlobs:
    """A `penstock.engine.ports.BlobStore` in Redis; safe for several threads.

    Parameters
    ----------
    url
        ``redis://host:port/database``.
    timeout_s
        How long connecting, and each answer, may take.
    """

    def __init__(self, url: str, *, timeout_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise MissingDependencyError(
                "the online store needs redis-py: pip install 'penstock[redis]'"
            ) from error
        self._errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        try:
            self._client: Redis = redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        except ValueError as error:
            raise StoreError(
                f"Redis: its address cannot be read ({error}). Allowed is redis://host:port/database."
            ) from error
        self._put = self._client.register_script(_PUT)
        self._delete = self._client.register_script(_DELETE)
        self._now_s = now_s
        self._away_until_s = 0.0

    def get(self, names: Sequence[bytes]) -> list[tuple[int, bytes] | None]:
        """Position and bytes by name, all of one moment."""
        with self._translated():
            found: Any = self._client.mget(list(names))
        return [None if value is None else _parted(value) for value in found]

    def put(self, items: Sequence[tuple[bytes, bytes]], position: int) -> None:
        """Keep bytes by name, where nothing newer is kept."""
        head = position.to_bytes(_POSITION_BYTES, "big")
        with self._translated():
            self._put(keys=[name for name, _ in items], args=[head + data for _, data in items])

    def delete(self, names: Sequence[bytes], position: int) -> None:
        """Drop what is of this position or an older one."""
        with self._translated():
            self._delete(keys=list(names), args=[position])

    def names(self, prefix: bytes) -> Iterator[list[bytes]]:
        """The names that begin so, some at a time."""
        pattern = (
            b"".join(b"\\" + bytes([one]) if one in b"*?[]\\" else bytes([one]) for one in prefix) + b"*"
        )
        cursor = 0
        while True:
            with self._translated():
                answer: Any = self._client.scan(cursor, match=pattern, count=_SCANNED)
            cursor, found = answer
            if found:
                yield found
            if not cursor:
                return

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self._now_s() < self._away_until_s:
            raise StoreError("Redis did not answer a moment ago; it is asked again soon.")
        try:
            yield
        except self._errors as error:
            self._away_until_s = self._now_s() + PAUSE_S
            raise StoreError(
                f"Redis does not answer ({type(error).__name__}: {error}). Start it, or correct url of [online] in penstock.toml."
            ) from error


def _parted(value: bytes) -> tuple[int, bytes]:
    return int.from_bytes(value[:_POSITION_BYTES], "big"), value[_POSITION_BYTES:]
