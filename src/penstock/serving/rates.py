"""How often a key may ask: a bucket of tokens each, which fills at its rate."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from penstock.serving.problems import ProblemError

if TYPE_CHECKING:
    from penstock.serving.access import Identity


class Rates:
    """The buckets of all keys. A bucket holds what a second brings, and at least one token.

    Parameters
    ----------
    rate
        Requests a second of a key that has no rate of its own; 0 for no limit.
    now_s
        Seconds that only go forward.

    Examples
    --------
    >>> from penstock.serving.access import Identity
    >>> rates, caller = Rates(0, now_s=lambda: 0.0), Identity("shop", frozenset(), "k1", rate=1.0)
    >>> rates.take(caller)
    >>> rates.take(caller)
    Traceback (most recent call last):
    penstock.serving.problems.ProblemError: more requests than the key may make: 1 a second. Ask again later.
    """

    def __init__(self, rate: float, *, now_s: Callable[[], float]) -> None:
        self._rate = rate
        self._now_s = now_s
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, identity: Identity) -> None:
        """Take a token; raises `ProblemError` with the time to wait where there is none."""
        rate = identity.rate or self._rate
        if not rate or not identity.key_id:
            return
        now_s, room = self._now_s(), max(rate, 1.0)
        tokens, then_s = self._buckets.get(identity.key_id, (room, now_s))
        tokens = min(room, tokens + (now_s - then_s) * rate)
        if tokens < 1:
            self._buckets[identity.key_id] = (tokens, now_s)
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "rate_limited",
                f"more requests than the key may make: {rate:g} a second. Ask again later.",
                retry_after_s=(1 - tokens) / rate,
            )
        self._buckets[identity.key_id] = (tokens - 1, now_s)
