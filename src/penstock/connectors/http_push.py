"""Events to a running project over HTTP, with retries that cannot store them twice: the same lines, with the same ids, are sent again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx
import msgspec

from penstock.core.errors import InputError

AGAIN = frozenset({429, 503, 504})
"""Statuses after which the same request may succeed."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
_PATH = "/v1/sources/{source}/events"
_NDJSON = {"Content-Type": "application/x-ndjson"}


class _Answer(msgspec.Struct):
    status: str


class _Answers(msgspec.Struct):
    answers: list[_Answer]


_decode = msgspec.json.Decoder(_Answers).decode


@dataclass(slots=True)
class Pushed:
    """What became of some events.

    Attributes
    ----------
    statuses
        Events by status: ``scored``, ``logged``, ``duplicate``, ``rejected``; ``failed`` for those given up.
    retries
        How often they were sent again.
    problem
        What went wrong last.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    problem: str = ""


class HttpPush:
    """Sends events to the API of a running project; use it as an async context manager.

    Parameters
    ----------
    url
        Where it listens.
    key
        An API key with the scope ``write``, where keys exist.
    give_up_s
        How long events are sent again and again before they are given up.
    chance
        Draws from 0 to 1, for the waits.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 10.0,
        give_up_s: float = 60.0,
        connections: int = 8,
        chance: Callable[[], float] = random.random,  # noqa: S311 - it spreads attempts, and guards nothing
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._give_up_s, self._chance = give_up_s, chance
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def send(self, source: str, lines: Sequence[bytes], pushed: Pushed) -> None:
        """Send events of `source`, each a line of JSON, until they are answered or given up; what becomes of them is noted in `pushed`.

        Raises
        ------
        InputError
            The server will not take them however often they are sent: the key, the source or the request is wrong.
        """
        waited_s, attempt = 0.0, 0
        while True:
            wait_s = await self._attempt(source, lines, pushed)
            if wait_s is None:
                return
            attempt += 1
            backoff_s = min(FIRST_WAIT_S * 2 ** min(attempt - 1, 10), LONGEST_WAIT_S) * (
                1 - 0.5 * self._chance()
            )
            wait_s = max(wait_s, backoff_s)
            if waited_s + wait_s > self._give_up_s:
                pushed.statuses["failed"] += len(lines)
                return
            waited_s += wait_s
            pushed.retries += 1
            await asyncio.sleep(wait_s)

    async def _attempt(self, source: str, lines: Sequence[bytes], pushed: Pushed) -> float | None:
        """One attempt: None where it is over, else how long to wait at least."""
        path = _PATH.format(source=source)
        try:
            answer = await self._client.post(path, content=b"\n".join(lines), headers=_NDJSON)
        except httpx.TransportError as error:
            pushed.problem = f"{type(error).__name__}: {error}".rstrip(": ")
            return 0.0
        if answer.status_code == httpx.codes.OK:
            pushed.statuses.update(one.status for one in _decode(answer.content).answers)
            return None
        pushed.problem = f"{answer.status_code} {answer.reason_phrase}"
        if answer.status_code in AGAIN:
            return _seconds(answer.headers.get("retry-after", ""))
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            return 0.0
        raise InputError(
            f"live data: {self._client.base_url} answered {pushed.problem} to events of {source!r}: {_detail(answer)}"
        )


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else 0.0


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return "it is not the API of Penstock. Correct --to."
