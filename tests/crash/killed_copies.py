"""A process to be killed: keeps copies of a learner, one file for all, and says how many are on disk.

As `killed_writer`, it forks a life for each line on stdin: ``FOLDER``. A life goes on behind what it finds.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import numpy as np

from penstock.models import copies_log, learned_copies
from penstock.models.copies_log import CopiesLog
from penstock.models.published import Boosted, Published

KEPT = 12


def copy_of(number: int) -> Published:
    """Every third has the model of the one before it."""
    form = Boosted(np.random.default_rng(number - number % 3).bytes(300), "logit")
    return Published(form, labels=number, position=2 * number, definition="d", log="a")


def bounded() -> None:
    """So that the file is written anew every now and then."""
    learned_copies.MOST = KEPT
    copies_log._SPARE_BYTES = 0


def one_life(folder: Path) -> None:
    bounded()
    log = CopiesLog(folder)
    number = 0 if log.copies.newest is None else log.copies.newest.labels + 1
    while True:
        for _ in range(number % 4):
            log.add(copy_of(number))
            number += 1
        log.add(copy_of(number))
        log.save()
        os.write(1, b"%d\n" % number)
        number += 1


def main() -> None:
    for line in sys.stdin:
        live_and_die(partial(one_life, Path(line.strip())))


if __name__ == "__main__":
    from tests.crash.forked import live_and_die

    main()
