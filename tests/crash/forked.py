"""A life in a forked child, which is killed from outside: it says by which id, and that it is dead."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def live_and_die(life: Callable[[], None]) -> None:
    """Run `life` in a child of this process, and wait until it ended however; both are told on stdout."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.write(1, b"dead\n")
        return
    os.write(1, b"pid %d\n" % os.getpid())
    try:
        life()
    except BaseException:
        traceback.print_exc()
        os.write(1, b"failed\n")
        raise
    finally:
        os._exit(0)
