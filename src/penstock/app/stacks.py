"""What a running process is doing, on its stderr, whenever it is sent SIGUSR1: for the moment in which something does not answer.

    kill -USR1 PID

The stack of every thread comes from the interpreter itself, so a process tells it in which nothing else moves any more; then, if Python
still runs, the tasks of event loops and what each waits for.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from weakref import WeakSet

_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def tell_on_signal() -> None:
    """From now on tell; call it in the main thread. Where stderr is no file of the system nothing is told."""
    try:
        sys.stderr.fileno()
    except OSError:
        return
    signal.signal(signal.SIGUSR1, lambda *_: _tell_tasks())
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=True)


def know(loop: asyncio.AbstractEventLoop) -> None:
    """Tell of this loop's tasks, too."""
    _loops.add(loop)


def _tell_tasks() -> None:
    for loop in list(_loops):
        tasks = asyncio.all_tasks(loop)
        print(f"{len(tasks)} tasks of an event loop:", file=sys.stderr)  # noqa: T201 - as faulthandler does
        for task in tasks:
            task.print_stack(file=sys.stderr)
    sys.stderr.flush()
