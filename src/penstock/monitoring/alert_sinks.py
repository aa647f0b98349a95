"""Where alerts are sent: signed HTTP requests after the Standard Webhooks specification, and people by Apprise.

The address comes from definitions or the environment, never from data. A receiver that answers with a redirect is not followed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from penstock.definitions.alert_lists import AddTo
from penstock.definitions.alerts import Apprise, Receiver, Webhook
from penstock.monitoring.alert_messages import text_of
from penstock.monitoring.alerts import LONGEST_RETRY_US, SECOND_US

if TYPE_CHECKING:
    import httpx

GONE = 410
_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64
LONGEST_ERROR = 200
_MOST_READ = 1 << 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt: delivered, or why not, whether trying again is of use, and when the receiver wants it."""

    delivered: bool
    error: str = ""
    final: bool = False
    retry_after_us: int = 0


def problem_with(receiver: Receiver, environ: Mapping[str, str]) -> str | None:
    """Why nothing can be sent to a receiver as things stand; None where it can."""
    if isinstance(receiver, AddTo):
        return None
    library = "httpx" if isinstance(receiver, Webhook) else "apprise"
    if find_spec(library) is None:
        return f"{receiver.name}: {library} is not installed; pip install 'penstock[alerts]'"
    value = environ.get(receiver.variable, "")
    if not value.strip():
        return f"{receiver.name}: the environment variable {receiver.variable} is not set"
    if isinstance(receiver, Webhook) and not all(_key(secret) for secret in value.split()):
        return (
            f"{receiver.name}: {receiver.variable} holds no secret of the form whsec_ and base64 of {_LEAST_BYTES} to "
            f"{_MOST_BYTES} bytes"
        )
    if isinstance(receiver, Apprise) and len(value.split()) != 1:
        return f"{receiver.name}: {receiver.variable} holds several addresses; allowed is one, so that none is told twice"
    return None


class Outbound:
    """Sends from one thread, over connections that stay open; `close` it.

    Parameters
    ----------
    environ
        Where secrets are.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._client: httpx.Client | None = None

    def send(self, receiver: Webhook | Apprise, key: str, body: bytes, *, now_us: int) -> Outcome:
        """Send a message once. Never raises for what the receiver, the network or a plugin of Apprise does."""
        problem = problem_with(receiver, self._environ)
        if problem is not None:
            return Outcome(delivered=False, error=problem)
        value = self._environ[receiver.variable]
        if isinstance(receiver, Apprise):
            try:
                return _notify(value.strip(), body)
            except Exception as error:  # noqa: BLE001 - a plugin's own, of any kind: it is an attempt that failed
                # Its text may hold the address, and so a secret.
                return Outcome(
                    delivered=False,
                    error=f"Apprise's plugin failed with an error of its own: {type(error).__name__}",
                )
        return self._post(receiver, signed_headers(key, body, secrets=value, now_us=now_us), body)

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()

    def _post(self, receiver: Webhook, headers: Mapping[str, str], body: bytes) -> Outcome:
        """The status says everything; an answer is read only where it is short, so that its connection can be used again."""
        import httpx

        if self._client is None:  # making one costs as much as a hundred requests
            self._client = httpx.Client(follow_redirects=False)
        timeout = receiver.timeout.total_seconds()
        try:
            with self._client.stream(
                "POST", receiver.url, content=body, headers=headers, timeout=timeout
            ) as response:
                status, wish = response.status_code, response.headers.get("retry-after", "")
                if _number(response.headers.get("content-length", "")) in range(_MOST_READ):
                    response.read()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Outcome(delivered=False, error=f"{type(error).__name__}: {error}"[:LONGEST_ERROR])
        if 200 <= status < 300:
            return Outcome(delivered=True)
        moved = ", a redirect, which is not followed" if 300 <= status < 400 else ""
        return Outcome(
            delivered=False,
            error=f"answered {status}{moved}",
            final=status == GONE,
            retry_after_us=min(max(_number(wish), 0) * SECOND_US, LONGEST_RETRY_US),
        )


def signed_headers(key: str, body: bytes, *, secrets: str, now_us: int) -> dict[str, str]:
    """The headers ``webhook-id``, ``webhook-timestamp`` (seconds, of this attempt) and ``webhook-signature``.

    HMAC-SHA256 over ``id.timestamp.body`` by each of the secrets.

    Examples
    --------
    >>> headers = signed_headers(
    ...     "msg_p5jXN8AQM9LWM0D4loKWxJek",
    ...     b'{"test": 2432232314}',
    ...     secrets="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ...     now_us=1_614_265_330_000_000,
    ... )
    >>> headers["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    seconds = str(now_us // SECOND_US)
    content = b".".join((key.encode(), seconds.encode(), body))
    digests = (hmac.new(_key(secret), content, hashlib.sha256).digest() for secret in secrets.split())
    return {
        "webhook-id": key,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
        "content-type": "application/json",
        "user-agent": "penstock",
    }


def _key(secret: str) -> bytes:
    """The bytes of a secret; none where it is not of the form."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""
    right = secret.startswith(_PREFIX) and _LEAST_BYTES <= len(key) <= _MOST_BYTES
    return key if right else b""


def _number(text: str) -> int:
    """A short number in a header; -1 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else -1


def _notify(address: str, body: bytes) -> Outcome:
    import apprise

    told = apprise.Apprise()
    if not told.add(address):
        return Outcome(delivered=False, error="Apprise does not know this kind of address")
    title, text = text_of(body)
    if told.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT):
        return Outcome(delivered=True)
    return Outcome(delivered=False, error="Apprise could not deliver it")
