"""The web server: uvicorn in a thread of its own, beside the engine's."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import uvicorn

from penstock.app.running import short_turns
from penstock.app.stacks import know
from penstock.core.errors import SettingsError
from penstock.serving.one_write import OneWriteProtocol

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI

    from penstock.app.settings import ServeSettings
    from penstock.serving.inside import Inside

START_S = 30.0
DRAIN_S = 5.0
BACKLOG = 2048


class Server:
    """Serves an application from a thread; use it as a context manager.

    On leaving, it takes no new connections, finishes the requests under way and ends, within `DRAIN_S` seconds.

    Parameters
    ----------
    app
        What to serve.
    settings
        Where to listen.
    inside
        An application for our own processes, and the Unix socket on which it listens.

    Raises
    ------
    SettingsError
        The address cannot be listened on.
    """

    def __init__(
        self, app: FastAPI, settings: ServeSettings, *, inside: tuple[Inside, Path] | None = None
    ) -> None:
        self._socket = _bound(settings.host, settings.port)
        config = uvicorn.Config(
            app,
            http=OneWriteProtocol,
            loop="uvloop",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # who asks is not for a header to say
            backlog=BACKLOG,
            timeout_graceful_shutdown=int(DRAIN_S),
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        self._server = _Uvicorn(config, inside)
        self._thread = threading.Thread(target=self._run, name="penstock-http", daemon=True)
        self._error: BaseException | None = None
        self.url = _url(settings, *self._socket.getsockname()[:2])
        """Where it listens."""

    def __enter__(self) -> Self:
        short_turns()
        self._thread.start()
        until = time.monotonic() + START_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        if not self._server.started:
            self.stop()
            why = f"{type(self._error).__name__}: {self._error}" if self._error else "see the log above"
            raise SettingsError(
                f"serve: the web server did not start ({why}). Check tls_cert and tls_key of [serve] in penstock.toml."
            ) from self._error
        gc.freeze()  # libraries, pages and models stay: looking through them for garbage takes 250 ms, at any moment
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Finish what is under way and end."""
        self._server.should_exit = True
        self._thread.join(DRAIN_S + 1)
        self._socket.close()
        gc.unfreeze()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told by `__enter__`, in the thread that waits
            self._error = error


class _Uvicorn(uvicorn.Server):
    """uvicorn that listens for our own processes, too, in the same event loop."""

    def __init__(self, config: uvicorn.Config, inside: tuple[Inside, Path] | None) -> None:
        super().__init__(config)
        self._inside = inside

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        know(asyncio.get_running_loop())
        await super().startup(sockets)
        if self._inside is None:
            return
        app, path = self._inside
        config = uvicorn.Config(
            app, http=OneWriteProtocol, lifespan="off", access_log=False, log_config=None, proxy_headers=False
        )
        config.load()
        state, shared = self.server_state, self.lifespan.state
        listening = await asyncio.get_running_loop().create_unix_server(
            lambda: OneWriteProtocol(config=config, server_state=state, app_state=shared), path
        )
        self.servers.append(listening)


def _url(settings: ServeSettings, host: str, port: int) -> str:
    """Where a caller on this machine, or one who knows its name, finds it."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = settings.allowed_hosts[0] if settings.allowed_hosts else "127.0.0.1"
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise SettingsError(
            f"serve: cannot listen on {host} port {port} ({error.strerror or error}). Choose another: penstock up --port 0 "
            "takes any that is free."
        ) from error
    return bound
