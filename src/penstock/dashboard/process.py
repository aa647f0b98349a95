"""The process beside a server that makes its pages.

python -m penstock.dashboard.process PROJECT FOLDER    # FOLDER holds the sockets of both
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from socket import socket
from threading import Thread

import uvicorn

from penstock.app.child import stand_back, told
from penstock.app.logs import logging_as
from penstock.app.settings import load_settings
from penstock.app.stacks import know, tell_on_signal
from penstock.dashboard.client import PageClient, Ways
from penstock.dashboard.mounting import pages_over
from penstock.dashboard.places import pages_socket
from penstock.serving.inside import Inside

LEVEL = 3
"""Somebody looks, and waits; but who scores goes first."""

LOOK_S = 3600.0


def main(root: Path, folder: Path) -> None:
    """Serve the pages until stdin is closed."""
    stand_back(LEVEL)
    tell_on_signal()
    Thread(target=_end_with_the_server, daemon=True).start()
    with logging_as(load_settings(root).log):
        ways = Ways(root, folder)
        Thread(target=ways.prepare, daemon=True).start()
        config = uvicorn.Config(
            Inside(pages_over(PageClient(ways))),
            uds=str(pages_socket(folder)),
            loop="uvloop",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
        )
        _Uvicorn(config).run()


class _Uvicorn(uvicorn.Server):
    async def startup(self, sockets: list[socket] | None = None) -> None:
        know(asyncio.get_running_loop())
        await super().startup(sockets)


def _end_with_the_server() -> None:
    while told(LOOK_S) != b"":
        pass
    os._exit(0)  # nothing is kept here that could be lost


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
