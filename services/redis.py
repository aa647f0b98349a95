"""Redis, from Debian; nothing is kept on disk."""

from __future__ import annotations

import socket

from services.base import HOST, Service


class Redis(Service):
    """An empty server on each start, with at most 1 GB that it never evicts."""

    name = "redis"
    default_port = 16379
    programs = ("redis-server",)

    @property
    def address(self) -> str:
        """A URL, of database 0."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        """The server, in the foreground."""
        return [
            *("redis-server", "--port", str(self.port), "--bind", HOST, "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no", "--maxmemory", "1gb", "--maxmemory-policy", "noeviction"),
        ]

    def ready(self) -> bool:
        """Whether it answers PING."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
