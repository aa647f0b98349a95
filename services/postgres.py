"""PostgreSQL, from Debian, with logical replication switched on."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from services.base import FOLDER, HOST, ROOT, Service, ServiceError

PROGRAMS = Path("/usr/lib/postgresql")
USER = "postgres"


class Postgres(Service):
    """A server with one superuser, ``postgres``, whom it trusts without a password, and the database ``postgres``.

    PostgreSQL does not run as root. Where we are root it runs as Debian's user ``postgres``, and keeps its data outside
    the clone if that user may not reach the clone.
    """

    name = "postgres"
    default_port = 15432
    programs = ("pg_lsclusters",)  # the package's one command on the PATH
    stop_signal = signal.SIGINT  # ends sessions, and shuts down in order

    @property
    def address(self) -> str:
        """A URL, of the database ``postgres``."""
        return f"postgresql://{USER}@{HOST}:{self.port}/postgres"

    @property
    def folder(self) -> Path:
        """Where its data, log and pid lie."""
        if os.geteuid() != 0 or _open_to_others(FOLDER):
            return super().folder
        clone = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
        return Path("/var/tmp") / f"penstock-{clone}" / self._folder_name

    def user(self) -> str | None:
        """Debian's user, where we are root."""
        return USER if os.geteuid() == 0 else None

    def prepare(self) -> None:
        """Create the cluster on the first start."""
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        if not (self.folder / "data" / "PG_VERSION").exists():
            self._create()

    def command(self) -> list[str]:
        """The server, without an address outside this machine."""
        settings = {
            "port": self.port,
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_wal_senders": 16,
            "max_replication_slots": 16,
            "max_connections": 200,
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(_program("postgres")), "-D", str(self.folder / "data"), *options]

    def ready(self) -> bool:
        """Whether it accepts connections."""
        asked = [str(_program("pg_isready")), "--quiet", f"--host={HOST}", f"--port={self.port}"]
        return subprocess.run(asked, check=False).returncode == 0

    def _create(self) -> None:
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        done = subprocess.run(
            [
                *(str(_program("initdb")), "--pgdata", str(self.folder / "data"), "--username", USER),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
            ],
            user=self.user(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceError(f"postgres: initdb failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _program(name: str) -> Path:
    """A program of the newest PostgreSQL that is installed."""
    versions = sorted(PROGRAMS.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if not versions:
        raise ServiceError(f"postgres: {name} is not installed: run `make services` as root.")
    return versions[-1]


def _open_to_others(folder: Path) -> bool:
    """Whether every user may walk to `folder`."""
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents) if path.exists())
