"""What every server has in common: a port, a folder, a process that is found again, a start that waits until it answers."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".services"
HOST = "127.0.0.1"
TAIL_LINES = 20


class ServiceError(RuntimeError):
    """A server cannot be installed, started or stopped; the message says why and what to do."""


def port(default: int) -> int:
    """`default` plus ``PENSTOCK_SERVICES_OFFSET``, so that two clones can run their servers at once."""
    return default + int(os.environ.get("PENSTOCK_SERVICES_OFFSET", "0"))


def answers(number: int) -> bool:
    """Whether something listens on a port of this machine."""
    try:
        with socket.create_connection((HOST, number), timeout=1):
            return True
    except OSError:
        return False


def http_ready(url: str) -> bool:
    """Whether `url` answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def need(program: str) -> str:
    """The path of an installed program; raises `ServiceError` where it is missing."""
    found = shutil.which(program)
    if found is None:
        raise ServiceError(f"{program} is not installed: run `make services` as root on Debian or Ubuntu.")
    return found


class Service(ABC):
    """One server of this clone, that is started as a process of its own and outlives who started it."""

    name: str
    default_port: int
    programs: Sequence[str] = ()  # commands that it runs, installed as Debian packages
    stop_signal = signal.SIGTERM
    start_seconds = 60.0
    stop_seconds = 20.0

    @property
    def port(self) -> int:
        """Where it listens."""
        return port(self.default_port)

    @property
    def address(self) -> str:
        """What a client connects to."""
        return f"{HOST}:{self.port}"

    @property
    def folder(self) -> Path:
        """Where its data, log and pid lie; one for each port."""
        return FOLDER / self._folder_name

    @property
    def log(self) -> Path:
        """What it writes, since the last start."""
        return self.folder / "log"

    @property
    def _folder_name(self) -> str:
        return self.name if self.port == self.default_port else f"{self.name}-{self.port}"

    def install(self) -> None:
        """Fetch what is missing besides Debian's packages; quick where all is there."""

    def prepare(self) -> None:
        """Make the data folder and configuration, before each start."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's command line."""

    def environment(self) -> dict[str, str]:
        """The server's environment."""
        return dict(os.environ)

    def user(self) -> str | None:
        """The user it runs as; None: ours."""
        return None

    def ready(self) -> bool:
        """Whether it answers."""
        return answers(self.port)

    def running(self) -> bool:
        """Whether this clone's server runs, ready or not."""
        return self._process() is not None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers; raises `ServiceError` with the end of its log."""
        with self.lock():
            if not self.running():
                self._launch()
            try:
                self._wait()
            except ServiceError:
                self._stop()
                raise

    def stop(self) -> None:
        """Stop it and wait until it is gone; nothing where it does not run."""
        with self.lock():
            self._stop()

    def freeze(self) -> None:
        """Stop its processes in their tracks: to its clients a network that swallows everything."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its processes go on after `freeze`."""
        self._signal(signal.SIGCONT)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One at a time may start, stop or install it."""
        FOLDER.mkdir(exist_ok=True)
        with (FOLDER / f"{self._folder_name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @property
    def pid_file(self) -> Path:
        """Its process: number, and when it began."""
        return FOLDER / f"{self._folder_name}.pid"

    def _stop(self) -> None:
        process = self._process()
        if process is not None:
            self._end(process)
        self.pid_file.unlink(missing_ok=True)

    def _launch(self) -> None:
        for program in self.programs:
            need(program)
        if answers(self.port):
            raise ServiceError(
                f"{self.name}: port {self.port} is taken by another process. End it, or choose other ports with "
                "PENSTOCK_SERVICES_OFFSET."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log.open("wb") as log:
            child = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment(),
                user=self.user(),
                start_new_session=True,
            )
        self.pid_file.write_text(f"{child.pid} {psutil.Process(child.pid).create_time()}\n")
        child.returncode = 0  # it outlives us: Python need not warn that it still runs

    def _process(self) -> psutil.Process | None:
        """The process that was started, if it is still the same and not only its remains."""
        try:
            pid, created = self.pid_file.read_text().split()
            process = psutil.Process(int(pid))
            alive = process.create_time() == float(created) and process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return process if alive else None

    def _wait(self) -> None:
        end = time.monotonic() + self.start_seconds
        while not self.ready():
            if not self.running():
                raise ServiceError(f"{self.name} ended while it started.\n{self._tail()}")
            if time.monotonic() > end:
                raise ServiceError(
                    f"{self.name} does not answer on {self.address} after {self.start_seconds:g} s.\n{self._tail()}"
                )
            time.sleep(0.05)

    def _signal(self, number: int) -> None:
        process = self._process()
        if process is None:
            raise ServiceError(
                f"{self.name} does not run: start it with `python -m services start {self.name}`."
            )
        for one in _family(process):
            with suppress(psutil.NoSuchProcess):  # it may end meanwhile
                one.send_signal(number)

    def _end(self, process: psutil.Process) -> None:
        family = _family(process)
        for one in family:
            one.resume()
        process.send_signal(self.stop_signal)
        _, left = psutil.wait_procs(family, timeout=self.stop_seconds)
        for one in left:
            one.kill()
        psutil.wait_procs(left, timeout=5)

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return f"The end of {self.log}:\n" + "\n".join(f"  {line}" for line in lines)


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it started."""
    return [process, *process.children(recursive=True)]
