"""API keys of a project: made, listed and revoked, each change with a row in the audit log.

The row is written first. What is cut off between the two leaves a row of a change that did not happen, never a change without a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from penstock.app.runtime import audit_log_of, state_folder
from penstock.core.clock import Clock
from penstock.core.errors import InputError
from penstock.core.time import from_us, to_us
from penstock.stores.keys import ApiKey, KeyStore, Scope, new_key

CREATED, REVOKED = "key.create", "key.revoke"
LONGEST_NAME = 64
LONGEST_LIFE = timedelta(days=3653)


def key_store_of(root: Path) -> KeyStore:
    """The API keys of the project in `root`."""
    return KeyStore(keys_path(root))


def keys_path(root: Path) -> Path:
    """The file of the keys of the project in `root`."""
    return state_folder(root) / "keys.db"


def create_key(
    root: Path,
    name: str,
    scopes: Sequence[str],
    *,
    expires_in: timedelta | None = None,
    rate: float | None = None,
    actor: str,
    reason: str,
    clock: Clock,
) -> tuple[ApiKey, str]:
    """Make a key; also its text, which is not kept and cannot be shown again.

    Parameters
    ----------
    name
        What people call it.
    scopes
        Of ``read``, ``score``, ``write`` and ``admin``, at least one.
    expires_in
        How long it works; None for until it is revoked.
    rate
        Requests a second that it may make.

    Raises
    ------
    InputError
        The name, a scope, the time or the rate is not allowed.
    """
    _check_name(name)
    if expires_in is not None and not timedelta(0) < expires_in <= LONGEST_LIFE:
        raise InputError(
            f"key {name!r}: it is to expire in {expires_in}; allowed is up to {LONGEST_LIFE.days} days. Write for example 90d."
        )
    if rate is not None and not 0 < rate <= 1e6:
        raise InputError(f"key {name!r}: rate is {rate:g}; allowed is a number of requests a second above 0.")
    now_us = clock.now_us()
    expires_us = None if expires_in is None else now_us + to_us(expires_in)
    key, text = new_key(name, _scopes(name, scopes), now_us=now_us, expires_us=expires_us, rate=rate)
    detail = {
        "name": name,
        "scopes": sorted(key.scopes),
        "expires": None if expires_us is None else from_us(expires_us).isoformat(),
        "rate": rate,
    }
    audit_log_of(root, clock=clock).append(CREATED, key.key_id, detail, actor=actor, reason=reason)
    key_store_of(root).add(key)
    return key, text


def revoke_key(root: Path, key_id: str, *, actor: str, reason: str, clock: Clock) -> ApiKey:
    """End a key for good; running servers refuse it within a second.

    Raises
    ------
    NotFoundError
        There is no key of this id.
    InputError
        It is revoked already.
    """
    store = key_store_of(root)
    key = store.key(key_id)
    if key.revoked_us is None:
        audit_log_of(root, clock=clock).append(
            REVOKED, key_id, {"name": key.name}, actor=actor, reason=reason
        )
    return store.revoke(key_id, clock.now_us())


def _check_name(name: str) -> None:
    if not (len(name.strip()) > 0 and len(name) <= LONGEST_NAME and name.isprintable()):
        raise InputError(
            f"key: its name is {name[:LONGEST_NAME]!r}; allowed are 1 to {LONGEST_NAME} printable characters. Name who uses it."
        )


def _scopes(name: str, scopes: Sequence[str]) -> list[Scope]:
    allowed = [scope.value for scope in Scope]
    unknown = [scope for scope in scopes if scope not in allowed]
    if unknown or not scopes:
        found = repr(unknown[0]) if unknown else "none"
        raise InputError(
            f"key {name!r}: its scope is {found}; allowed are {', '.join(allowed)}. Give at least one."
        )
    return [Scope(scope) for scope in scopes]
