"""Answers that go on and on, for clients that take them: one that leaves its connection full is cut off."""

from __future__ import annotations

import asyncio

from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

SEND_S = 30.0
"""How long a client may leave its connection full."""


class TimelyStream(StreamingResponse):
    """A streaming answer; a client that takes nothing for `SEND_S` is cut off.

    It ends with an error, so that what was sent does not look whole.
    """

    async def stream_response(self, send: Send) -> None:
        """Send what comes, in time."""

        async def in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), SEND_S)

        await super().stream_response(in_time)
