"""Who asks: a key in a header, a session in a cookie, or somebody on this machine while there are no keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from penstock.core.errors import SettingsError
from penstock.serving.access import LOCAL, Identity
from penstock.serving.origins import is_loopback
from penstock.serving.problems import ProblemError
from penstock.serving.proxies import Proxies

if TYPE_CHECKING:
    from starlette.types import Scope as Connection

    from penstock.serving.headers import Seen
    from penstock.serving.keyring import Keyring
    from penstock.serving.sessions import Sessions
    from penstock.stores.keys import ApiKey

_SCHEMES = frozenset({b"bearer", b"tecton-key"})


class Authentication:
    """Tells callers apart.

    Parameters
    ----------
    keyring, sessions
        The project's keys, and the sessions of people who logged in with one.
    proxies
        Whose word counts for how a request came.
    """

    def __init__(self, keyring: Keyring, sessions: Sessions, proxies: Proxies | None = None) -> None:
        self._keyring = keyring
        self._sessions = sessions
        self._proxies = proxies or Proxies(())
        self._identities: dict[str, tuple[ApiKey, Identity]] = {}

    def identity(self, scope: Connection, seen: Seen) -> Identity | None:
        """Who asks; None for who shows nothing.

        Raises
        ------
        ProblemError
            A key was shown that does not work. A session that has ended is none.
        """
        if seen.authorization is not None or seen.key is not None:
            return self._of_key(self._keyring.authenticate(_text_of(seen)))
        if seen.cookie is not None:
            is_secure = self._proxies.is_secure(scope, seen.proto)
            session = self._sessions.session_of(seen.cookie, is_secure=is_secure)
            if session is not None:
                return replace(self._of_key(session.key), ends_us=session.ends_us)
        return LOCAL if self._is_open_to(scope, seen) else None

    def alive(self, identity: Identity | None) -> Callable[[], bool]:
        """Tells whether an identity still holds, for connections that last."""
        if identity is None or not identity.key_id:
            return lambda: identity is not LOCAL or self._keyring.is_empty
        key_id, ends_us = identity.key_id, identity.ends_us
        return lambda: (
            self._keyring.key(key_id) is not None and (not ends_us or self._sessions.lasts_until(ends_us))
        )

    def _is_open_to(self, scope: Connection, seen: Seen) -> bool:
        """Whether a caller needs no key: there are none, and no proxy stands between that would make everybody local."""
        client = scope.get("client")
        return client is not None and is_loopback(client[0]) and not seen.forwarded and self._keyring.is_empty

    def _of_key(self, key: ApiKey | None) -> Identity:
        if key is None:
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "unauthenticated",
                "the key does not work: it is unknown, has expired, or was revoked. `penstock keys list` tells.",
            )
        known = self._identities.get(key.key_id)
        if known is None or known[0] is not key:
            identity = Identity(key.name, key.scopes, key.key_id, key.rate or 0.0)
            known = self._identities[key.key_id] = (key, identity)
        return known[1]


def _text_of(seen: Seen) -> str:
    """The text of the key that a request shows; empty where it is none."""
    if seen.authorization is None:
        return (seen.key or b"").decode("latin-1").strip()
    scheme, _, text = seen.authorization.partition(b" ")
    return text.decode("latin-1").strip() if scheme.lower() in _SCHEMES else ""


def check_exposure(host: str, keyring: Keyring) -> None:
    """Raise `SettingsError` where others than this machine would be let in without a key."""
    if not is_loopback(host) and keyring.is_empty:
        raise SettingsError(
            f"serve: host is {host!r}, which others can reach, and the project has no keys; allowed without keys are loopback addresses. "
            "Make one: penstock keys create NAME --scope admin"
        )
