"""Sessions of people who look at the pages: a signed cookie that names a key and ends with it."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import NamedTuple

from penstock.core.clock import Clock
from penstock.serving.keyring import Keyring
from penstock.stores.keys import ApiKey

_SECOND_US = 1_000_000
_NAMES = {False: "penstock", True: "__Host-penstock"}
"""By whether pages are reached by HTTPS. The prefix makes browsers refuse the cookie from any other place than this host by HTTPS."""


class Session(NamedTuple):
    """Whose session it is, and until when it lasts."""

    key: ApiKey
    ends_us: int


class Sessions:
    """Makes and reads session cookies; nothing of them is kept.

    Parameters
    ----------
    keyring
        Whose keys log in. A key that is revoked or has expired ends its sessions.
    secret
        Gives the key that signs; called when first needed.
    hours
        How long a session lasts.
    """

    def __init__(self, keyring: Keyring, secret: Callable[[], bytes], *, clock: Clock, hours: float) -> None:
        self._keyring = keyring
        self._read_secret = secret
        self._secret = b""
        self._clock = clock
        self._lasting_us = int(hours * 3600 * _SECOND_US)

    def log_in(self, key: ApiKey, *, is_secure: bool) -> str:
        """The ``Set-Cookie`` header that starts a session of `key`; where the page came by HTTPS, it is sent by that alone."""
        ends_us = self._clock.now_us() + self._lasting_us
        ends_us = ends_us if key.expires_us is None else min(ends_us, key.expires_us)
        signed = f"{key.key_id}.{ends_us}"
        age_s = max(0, (ends_us - self._clock.now_us()) // _SECOND_US)
        return _cookie(f"{signed}.{self._signature(signed)}", age_s, is_secure=is_secure)

    def log_out(self, *, is_secure: bool) -> str:
        """The ``Set-Cookie`` header that ends a session."""
        return _cookie("", 0, is_secure=is_secure)

    def session_of(self, header: bytes, *, is_secure: bool) -> Session | None:
        """The session that a ``Cookie`` header holds, if it lasts."""
        start = f"{_NAMES[is_secure]}=".encode()
        for part in map(bytes.strip, header.split(b";")):
            if part.startswith(start):
                return self._session_of(part[len(start) :].decode("latin-1"))
        return None

    def lasts_until(self, ends_us: int) -> bool:
        """Whether a session that ends then has not ended yet."""
        return ends_us > self._clock.now_us()

    def _session_of(self, value: str) -> Session | None:
        signed, _, signature = value.rpartition(".")
        if not hmac.compare_digest(self._signature(signed).encode(), signature.encode()):
            return None
        key_id, _, end = signed.partition(".")
        key = self._keyring.key(key_id) if self.lasts_until(int(end)) else None
        return None if key is None else Session(key, int(end))

    def _signature(self, signed: str) -> str:
        if not self._secret:
            self._secret = self._read_secret()
        return hmac.digest(self._secret, b"session:" + signed.encode(), "sha256").hex()


def _cookie(value: str, age_s: int, *, is_secure: bool) -> str:
    secure = "; Secure" if is_secure else ""
    return f"{_NAMES[is_secure]}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}"
