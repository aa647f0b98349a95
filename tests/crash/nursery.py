"""A process that forks writers to be killed, seen from outside."""

from __future__ import annotations

import os
import pathlib
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress

DEADLINE = 60  # seconds for anything that is waited for


class Nursery:
    """Starts `module` once; it forks a writer for each line on its stdin, so that a life costs milliseconds.

    A writer prints ``pid N`` first, then a number for what it acknowledges, and ``failed`` where it ends in an error;
    the process prints ``dead`` at its end.
    """

    def __init__(self, module: str) -> None:
        paths = os.pathsep.join([*sys.path, str(pathlib.Path.cwd())])
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._output = self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._unread = b""

    def close(self):
        self._process.stdin.close()
        self._process.wait(DEADLINE)
        self._process.stdout.close()
        self._selector.close()

    def kill_one(self, *arguments, delay, since="commit"):
        """Kill a writer `delay` seconds after its first commit (or its start); returns what it acknowledged last.

        None: it acknowledged nothing. A writer that comes to its own end before is let go.
        """
        self._process.stdin.write(" ".join(map(str, arguments)).encode() + b"\n")
        self._process.stdin.flush()
        writer, acknowledged, kill_at = None, None, None
        while True:
            line = self._line(kill_at)
            if line is None:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(writer, signal.SIGKILL)
                kill_at = time.perf_counter() + DEADLINE
            elif line.startswith(b"pid "):
                writer = int(line[4:])
                kill_at = time.perf_counter() + delay if since == "start" else None
            elif line == b"failed":
                raise AssertionError("the writer failed; its error stands on stderr")
            elif line == b"dead":
                return acknowledged
            else:
                acknowledged = int(line)
                kill_at = kill_at or time.perf_counter() + delay

    def _line(self, until):
        """The next line, or None where it does not come until then."""
        while b"\n" not in self._unread:
            left = DEADLINE if until is None else until - time.perf_counter()
            if left <= 0 or not self._selector.select(left):
                assert until is not None, "the writer says nothing"
                return None
            data = os.read(self._output, 65536)
            assert data, "the nursery died"
            self._unread += data
        if until is not None and time.perf_counter() >= until:
            return None
        line, _, self._unread = self._unread.partition(b"\n")
        return line
