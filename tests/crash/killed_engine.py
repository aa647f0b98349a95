"""A process to be killed: runs the engine over a feed, and says on stdout up to where it is acknowledged.

As `killed_writer`, it forks a life for each line on stdin: ``FOLDER FEED_SEED EVENTS SEED DURABILITY``.
"""

from __future__ import annotations

import functools
import os
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.crash.engine_life import live, open_runtime, run_through
from tests.crash.feed import Feed
from tests.crash.forked import live_and_die


@functools.cache
def feed_of(seed: int, events: int) -> Feed:
    return Feed(seed, events)


def one_life(root: Path, feed: Feed, seed: int, durability) -> None:
    runtime = open_runtime(root, feed, durability=durability)
    live(runtime, feed, random.Random(seed), lambda done: os.write(1, b"%d\n" % done))
    runtime.close(snapshot=bool(seed % 2))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:  # compile before forking
        run_through(Path(folder), Feed(0, 400), random.Random(0))
    for line in sys.stdin:
        folder, feed_seed, events, seed, durability = line.rsplit(maxsplit=4)
        feed = feed_of(int(feed_seed), int(events))
        live_and_die(partial(one_life, Path(folder), feed, int(seed), durability))


if __name__ == "__main__":
    main()
