"""A job's process as its server sees it: asked on stdin, heard on stdout, a line of JSON each.

It ends when its server ends, since its stdin ends then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

LONGEST_LINE = 64 << 20
"""Bytes of a result."""
TAIL_BYTES = 8 << 10
PATIENCE_S = 5.0
MODULE = "penstock.serving.job_process"


def job_command(root: Path) -> list[str]:
    """How a process for a job of the project in `root` is started."""
    return [sys.executable, "-P", "-m", MODULE, str(root)]


class JobProcess:
    """A process that works on something.

    Parameters
    ----------
    command
        How it is started.
    asked
        What it is asked: JSON values, its first line.
    threads
        How many threads its libraries may use.
    longest_s
        After so long it is ended.
    """

    def __init__(
        self, command: Sequence[str], asked: dict[str, Any], *, threads: int, longest_s: float
    ) -> None:
        count = str(threads)
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the server
            env={"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, **os.environ},
        )
        self._tail = b""
        self._listener = threading.Thread(target=self._listen, name="penstock-job-stderr", daemon=True)
        self._listener.start()
        self._limit = threading.Timer(longest_s, self.end)
        self._limit.daemon = True
        self._limit.start()
        with suppress(OSError):  # it has ended, and says so by its code
            self._stdin.write(json.dumps(asked).encode() + b"\n")
            self._stdin.flush()

    @property
    def stdout(self) -> IO[bytes]:
        """What it says."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it says, until it ends; lines that are too long or no JSON end it."""
        while line := self.stdout.readline(LONGEST_LINE + 1):
            try:
                found = json.loads(line) if len(line) <= LONGEST_LINE else None
            except ValueError:
                found = None
            if not isinstance(found, dict):
                self.end(patience_s=0.0)
                return
            yield found

    def wait(self) -> tuple[int, str]:
        """Its exit code and the end of its stderr, when it has ended."""
        code = self._process.wait()
        self._limit.cancel()
        self._listener.join(PATIENCE_S)
        for pipe in (self._stdin, self.stdout):
            with suppress(OSError):
                pipe.close()
        return code, self._tail.decode("utf-8", "replace")

    def end(self, *, patience_s: float = PATIENCE_S) -> None:
        """Ask it to end, and those that it started; after `patience_s` they are made to."""
        self._signal(signal.SIGTERM)
        if self._process.poll() is None:
            threading.Timer(patience_s, self._signal, [signal.SIGKILL]).start()

    def _signal(self, number: int) -> None:
        with suppress(OSError):
            os.killpg(self._process.pid, number)

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _listen(self) -> None:
        assert self._process.stderr is not None
        read: Callable[[int], bytes] = self._process.stderr.read1  # type: ignore[attr-defined]
        while data := read(TAIL_BYTES):
            self._tail = (self._tail + data)[-TAIL_BYTES:]
        self._process.stderr.close()
