"""Sessions of people who look at the pages: a signed cookie that names a key and ends with it."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from penstock.core.clock import Clock
from penstock.serving.keyring import Keyring
from penstock.stores.keys import ApiKey

_SECOND_US = 1_000_000


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
    is_secure
        Whether pages are reached by HTTPS; then the cookie is sent by it alone.
    """

    def __init__(
        self, keyring: Keyring, secret: Callable[[], bytes], *, clock: Clock, hours: float, is_secure: bool
    ) -> None:
        self._keyring = keyring
        self._read_secret = secret
        self._secret = b""
        self._clock = clock
        self._lasting_us = int(hours * 3600 * _SECOND_US)
        self.is_secure = is_secure
        self.cookie_name = "__Host-penstock" if is_secure else "penstock"
        """The prefix makes browsers refuse the cookie from any other place than this host by HTTPS."""
        self._start = f"{self.cookie_name}=".encode()

    def log_in(self, key: ApiKey) -> str:
        """The ``Set-Cookie`` header that starts a session of `key`."""
        ends_us = self._clock.now_us() + self._lasting_us
        ends_us = ends_us if key.expires_us is None else min(ends_us, key.expires_us)
        signed = f"{key.key_id}.{ends_us}"
        age_s = max(0, (ends_us - self._clock.now_us()) // _SECOND_US)
        return self._cookie(f"{signed}.{self._signature(signed)}", age_s)

    def log_out(self) -> str:
        """The ``Set-Cookie`` header that ends a session."""
        return self._cookie("", 0)

    def key_of(self, header: bytes) -> ApiKey | None:
        """The key whose session a ``Cookie`` header holds, if it lasts."""
        for part in map(bytes.strip, header.split(b";")):
            if part.startswith(self._start):
                return self._key_of(part[len(self._start) :].decode("latin-1"))
        return None

    def _key_of(self, value: str) -> ApiKey | None:
        signed, _, signature = value.rpartition(".")
        if not hmac.compare_digest(self._signature(signed).encode(), signature.encode()):
            return None
        key_id, _, ends_us = signed.partition(".")
        return self._keyring.key(key_id) if int(ends_us) > self._clock.now_us() else None

    def _signature(self, signed: str) -> str:
        if not self._secret:
            self._secret = self._read_secret()
        return hmac.digest(self._secret, b"session:" + signed.encode(), "sha256").hex()

    def _cookie(self, value: str, age_s: int) -> str:
        secure = "; Secure" if self.is_secure else ""
        return f"{self.cookie_name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}"
