"""A process to be killed: runs the engine over a feed, and says on stdout up to where it is acknowledged.

As `killed_writer`, it forks a life for each line on stdin: ``FOLDER FEED_SEED EVENTS SEED DURABILITY``.
"""

from __future__ import annotations

import functools
import os
import random
import sys
import tempfile
import traceback
from pathlib import Path

from tests.crash.engine_life import live, open_runtime, run_through
from tests.crash.feed import Feed


@functools.cache
def feed_of(seed: int, events: int) -> Feed:
    return Feed(seed, events)


def one_life(root: Path, feed: Feed, seed: int, durability) -> None:
    runtime = open_runtime(root, feed, durability=durability)
    live(runtime, feed, random.Random(seed), lambda done: os.write(1, b"%d\n" % done))
    runtime.close(snapshot=bool(seed % 2))


def fork_life(folder: str, feed: Feed, seed: str, durability: str) -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.write(1, b"dead\n")
        return
    os.write(1, b"pid %d\n" % os.getpid())
    try:
        one_life(Path(folder), feed, int(seed), durability)
    except BaseException:
        traceback.print_exc()
        os.write(1, b"failed\n")
        raise
    finally:
        os._exit(0)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:  # compile before forking
        run_through(Path(folder), Feed(0, 400), random.Random(0))
    for line in sys.stdin:
        folder, feed_seed, events, seed, durability = line.rsplit(maxsplit=4)
        fork_life(folder, feed_of(int(feed_seed), int(events)), seed, durability)


if __name__ == "__main__":
    main()
