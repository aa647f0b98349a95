"""Keys in memory: a request is authenticated without a look at the disk, and a revocation counts within a second."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from pathlib import Path

from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.stores.keys import ApiKey, KeyStore, digest_of, split_key

LOOK_S = 0.5
"""How often the file is looked at."""

PATIENCE_S = 5.0
"""How long keys that were read are believed while the file cannot be."""

_FRESH_NS = 2_000_000_000
_NOBODY = bytes(32)

Mark = tuple[int, int, int] | None


class Keyring:
    """The keys of a file as they were half a second ago at most. For one thread.

    Parameters
    ----------
    path
        The keys' file; as long as there is none, the ring is empty.
    clock
        Tells which keys have expired.
    now_s
        Seconds that only go forward.
    """

    def __init__(self, path: Path, *, clock: Clock, now_s: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._store = KeyStore(path, timeout_s=0.2)
        self._clock = clock
        self._now_s = now_s
        self._keys: dict[str, ApiKey] = {}
        self._mark: Mark = None
        self._again = True
        self._read_s = self._looked_s = -float("inf")

    @property
    def is_empty(self) -> bool:
        """Whether no key was ever made; revoked and expired ones count, so that ending the last key opens nothing."""
        self._look()
        return not self._keys

    def key(self, key_id: str) -> ApiKey | None:
        """The key of an id, if it works now."""
        self._look()
        key = self._keys.get(key_id)
        if key is None or key.revoked_us is not None:
            return None
        if key.expires_us is not None and key.expires_us <= self._clock.now_us():
            return None
        return key

    def authenticate(self, text: str) -> ApiKey | None:
        """The key with this text, if it works now.

        Digests are compared in constant time, and an unknown id costs what a wrong secret does.
        """
        parts = split_key(text)
        if parts is None:
            return None
        key = self.key(parts[0])
        right = hmac.compare_digest(digest_of(parts[1]), _NOBODY if key is None else key.digest)
        return key if right else None

    def _look(self) -> None:
        now_s = self._now_s()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            self._read(now_s)
        except (OSError, StoreError) as error:
            if now_s - self._read_s > PATIENCE_S:
                raise StoreError(
                    f"keys {self._path}: they cannot be read, so that nobody is let in ({error})."
                ) from error

    def _read(self, now_s: float) -> None:
        mark = _mark_of(self._path)
        if mark is None and self._keys:
            raise StoreError(f"keys {self._path}: the file is gone. Restore it from a backup.")
        if mark != self._mark or self._again:
            self._keys = {key.key_id: key for key in self._store.all()}
            self._mark = mark
            # Two changes within a tick of the file system's clock look like one: what is fresh is read again.
            self._again = mark is not None and self._clock.now_us() * 1000 - mark[0] < _FRESH_NS
        self._read_s = now_s


def _mark_of(path: Path) -> Mark:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
