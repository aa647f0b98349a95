"""A process to be killed: exports a project to its offline tables, in small blocks.

As `killed_writer`, it forks a life for each line on stdin: ``FOLDER``. Delta's threads start in the life alone.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from penstock.app.exporting import exporter_of
from penstock.app.runtime import plan_of
from penstock.definitions.project import load_project
from tests.crash.forked import live_and_die


def one_life(root: Path) -> None:
    with exporter_of(root, plan_of(load_project(root))) as exporter:
        done: list[int] = []

        def step(position: int, _total: int) -> None:
            if position not in done:
                done.append(position)
                os.write(1, b"%d\n" % position)

        exporter.sync(progress=step)


def main() -> None:
    for line in sys.stdin:
        live_and_die(partial(one_life, Path(line.strip())))


if __name__ == "__main__":
    main()
