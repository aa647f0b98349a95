"""Processes of ours beside a run: started with it, and ended with it, however it ends, since their stdin is closed then."""

from __future__ import annotations

import atexit
import gc
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO


class Child:
    """A module of ours that runs as ``python -m MODULE ARGUMENTS`` until its stdin is closed.

    Parameters
    ----------
    module, arguments
        What to run.
    environment
        Variables that it has unless they are set already.
    speaks
        Whether it says something on its stdout; else that goes nowhere.
    logs
        Whether what it writes to stderr stands beside our own; else that goes nowhere.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        speaks: bool = False,
        logs: bool = False,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if speaks else subprocess.DEVNULL,
            stderr=None if logs else subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run
            env={**(environment or {}), **os.environ},
        )

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    @property
    def stdout(self) -> IO[bytes]:
        """What it says, where it speaks."""
        assert self._process.stdout is not None
        return self._process.stdout

    def tell(self, word: bytes) -> None:
        """Send it a word; nothing where it has ended."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(word)
            self._process.stdin.flush()

    def wait(self) -> None:
        """Close its stdin and wait for its end."""
        self._close()
        self._process.wait()

    def end(self, patience_s: float) -> None:
        """Close its stdin; what has not ended after `patience_s` seconds is terminated, and at once what has not begun."""
        self._close()
        try:
            self._process.wait(patience_s if self._has_begun() else 0)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()

    def _has_begun(self) -> bool:
        """Whether it has stood back, the first that it does; before that it loads libraries, for seconds, and hears nothing."""
        with suppress(OSError):  # it has ended
            own = os.getpriority(os.PRIO_PROCESS, 0)
            return os.getpriority(os.PRIO_PROCESS, self._process.pid) > own
        return True

    def _close(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()


def stand_back(level: int = 10) -> None:
    """In a child: leave the processors to who serves; where all want them it gets a tenth of a fair share (at 10).

    Not less, since it may hold a lock that somebody waits for. Linux gives each session a fair share of the processors, however nice what runs
    in it is, unless the session is nice itself (sched(7), autogroup).
    """
    atexit.register(gc.freeze)  # ending, the interpreter need not look through all that is loaded
    os.nice(level)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(level))


def told(seconds: float) -> bytes | None:
    """In a child: wait for up to so many seconds for a word; None where there was none, empty where stdin was closed."""
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return None
    return os.read(sys.stdin.fileno(), 1)
