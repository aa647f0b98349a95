"""A load on an HTTP server: at a fixed rate, or as fast as it answers.

`python -m benchmarks.http_load PLAN`, where PLAN is JSON: url, path, headers, bodies (a file, one body a line), connections, rate
(requests a second; 0: as fast as they are answered), seconds. Prints a report as JSON.

At a fixed rate a request's time begins when it was due, not when it could be sent: a server that stalls cannot hide it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

GIVE_UP_S = 30.0


class Connection(asyncio.Protocol):
    """One connection, one request at a time; `answered` is called with the status."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._buffer = bytearray()
        self._waiting: asyncio.Future[int] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, request: bytes) -> asyncio.Future[int]:
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            self._waiting.set_result(0)
        else:
            self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = bytes(self._buffer[:head]).lower()
        start = headers.find(b"content-length:") + len(b"content-length:")
        end = headers.find(b"\r\n", start)
        length = int(headers[start : end if end > 0 else None])
        if len(self._buffer) >= head + 4 + length:
            del self._buffer[:]
            self._done(int(headers[9:12]))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._done(0)

    def _done(self, status: int) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(status)


class Load:
    """Sends requests and notes how long each took."""

    def __init__(self, plan: dict[str, Any], requests: Iterator[bytes]) -> None:
        self._plan = plan
        self._requests = requests
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()

    async def run(self) -> float:
        """The seconds that it took."""
        place = urlsplit(self._plan["url"])
        loop = asyncio.get_running_loop()
        opened = [
            await loop.create_connection(Connection, place.hostname, place.port)
            for _ in range(self._plan["connections"])
        ]
        connections = [protocol for _, protocol in opened]
        started = time.perf_counter()
        if self._plan["rate"]:
            await self._at_rate(connections)
        else:
            until = started + self._plan["seconds"]
            await asyncio.gather(*(self._as_fast_as_it_goes(one, until) for one in connections))
        return time.perf_counter() - started

    async def _as_fast_as_it_goes(self, connection: Connection, until: float) -> None:
        while (now := time.perf_counter()) < until and (request := next(self._requests, None)) is not None:
            await self._one(connection, request, now)

    async def _at_rate(self, connections: list[Connection]) -> None:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for connection in connections:
            free.put_nowait(connection)
        under_way: set[asyncio.Task[None]] = set()

        async def one(request: bytes, due: float) -> None:
            connection = await free.get()
            await self._one(connection, request, due)
            free.put_nowait(connection)

        gap, start = 1 / self._plan["rate"], time.perf_counter()
        for number in range(int(self._plan["rate"] * self._plan["seconds"])):
            due = start + number * gap
            await asyncio.sleep(due - time.perf_counter())
            task = asyncio.create_task(one(next(self._requests), due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.wait_for(asyncio.gather(*under_way), GIVE_UP_S)

    async def _one(self, connection: Connection, request: bytes, due: float) -> None:
        status = await connection.send(request)
        self.seconds.append(time.perf_counter() - due)
        self.statuses[status] += 1


def requests_of(plan: dict[str, Any]) -> Iterator[bytes]:
    """The requests as bytes, one body each."""
    place = urlsplit(plan["url"])
    head = f"POST {plan['path']} HTTP/1.1\r\nHost: {place.netloc}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in plan.get("headers", {}).items())
    for body in Path(plan["bodies"]).read_bytes().splitlines():
        yield f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def main(plan: dict[str, Any]) -> dict[str, Any]:
    """Run a load and say how it went."""
    import uvloop

    load = Load(plan, iter(list(requests_of(plan))))
    took = uvloop.run(load.run())
    times = np.array(load.seconds[len(load.seconds) // 10 :]) * 1e3  # the first tenth warms up
    quantiles = {f"p{q}_ms": float(np.percentile(times, q)) for q in (50, 99, 99.9)}
    good = sum(count for status, count in load.statuses.items() if 200 <= status < 300)
    return {
        **quantiles,
        "requests": len(load.seconds),
        "per_s": len(load.seconds) / took,
        "failed": len(load.seconds) - good,
        "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
