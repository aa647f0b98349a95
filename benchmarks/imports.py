"""How long `import penstock` takes in a fresh interpreter, beside libraries of the same kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.contest import Contestant, hold
from benchmarks.machine import versions_of
from benchmarks.result import Bar, Result, find

WHAT = "Seconds of `import NAME` in a fresh interpreter, compiled files cached, interleaved."
MODULES = ("penstock", "numpy", "polars", "pandas", "sklearn")
REPETITIONS = 11
LIMIT_S = 0.15

TIMED_IMPORT = """
import json, time
started = time.perf_counter()
import {module}
print(json.dumps({{"seconds": time.perf_counter() - started}}))
"""


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:  # noqa: ARG001
    """Import each module in turns."""
    contestants = [
        Contestant(module, partial(_command, module), repetitions=REPETITIONS) for module in MODULES
    ]
    contest = hold(contestants, lambda _: None)
    figures = contest.figures("s", lambda run: run.report["seconds"], contestants)
    ours = find(figures, "penstock")
    return Result(
        benchmark="imports",
        what=WHAT,
        figures=tuple(figures),
        bars=(Bar("import penstock", None if ours is None else ours.value, LIMIT_S, "s", at_most=True),),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "numpy", "polars", "pandas", "scikit-learn"),
    )


def _command(module: str) -> list[str | Path]:
    return [sys.executable, "-c", TIMED_IMPORT.format(module=module)]
