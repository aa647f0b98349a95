"""A process to be killed: exports a project to its offline tables, in small blocks.

As `killed_writer`, it forks a life for each line on stdin: ``FOLDER``. Delta's threads start in the life alone.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from penstock.app.exporting import exporter_of
from penstock.app.runtime import plan_of
from penstock.definitions.project import load_project


def one_life(root: Path) -> None:
    with exporter_of(root, plan_of(load_project(root))) as exporter:
        done: list[int] = []

        def step(position: int, _total: int) -> None:
            if position not in done:
                done.append(position)
                os.write(1, b"%d\n" % position)

        exporter.sync(progress=step)


def fork_life(folder: str) -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.write(1, b"dead\n")
        return
    os.write(1, b"pid %d\n" % os.getpid())
    try:
        one_life(Path(folder))
    except BaseException:
        traceback.print_exc()
        os.write(1, b"failed\n")
        raise
    finally:
        os._exit(0)


def main() -> None:
    for line in sys.stdin:
        fork_life(line.strip())


if __name__ == "__main__":
    main()
