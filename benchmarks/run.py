"""Runs the benchmarks: `python -m benchmarks.run [NAME ...] [--scale 0.05]`.

At full scale a result goes to benchmarks/results/NAME.json and into the README's table, and a bar that is missed makes
the command fail. A shorter run goes to benchmarks/.work/results and fails nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from benchmarks import readme_table
from benchmarks.machine import describe_machine
from benchmarks.process import ROOT, WORK
from benchmarks.result import RESULTS, Bar, Figure, Result

NAMES = (
    "imports",
    "simulator",
    "backfill",
    "wide",
    "asof",
    "scaling",
    "stream",
    "latency",
    "postgres",
    "kafka",
    "online",
    "serving",
    "footprint",
    "drift",
    "online_learning",
    "backtest",
    "retraining",
)


def main() -> int:
    """Measure what was asked for, print a table of each, write the results."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all where none is given"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the events, for a quick try")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(NAMES)}")
    with _alone():
        results = [_measure(name, arguments.scale) for name in arguments.names or NAMES]
    if arguments.scale != 1.0:
        return 0
    table_written = readme_table.main([]) == 0
    return 0 if table_written and all(result.good for result in results) else 1


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the work folder: a second run at the same time would spoil the figures and overwrite the outputs."""
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("Another benchmark is running in this folder; wait until it has ended.")
        yield


def _measure(name: str, scale: float) -> Result:
    console = Console()
    console.rule(f"[bold]{name}")
    machine = describe_machine()
    found: Result = importlib.import_module(f"benchmarks.{name}").measure(
        scale=scale, say=lambda line: console.print(line, style="dim", markup=False)
    )
    result = replace(found, machine=machine)
    path = result.write(RESULTS if scale == 1.0 else WORK / "results")
    show(result, console)
    console.print(f"written: {path.relative_to(ROOT)}", style="dim")
    return result


def show(result: Result, console: Console) -> None:
    """A result as tables: figures, bars, then what failed or disagrees."""
    figures = Table("contestant", "median", "unit", "events", "peak MB", "runs")
    for figure in result.figures:
        figures.add_row(*_figure_cells(figure))
    bars = Table("bar", "measured", "asked for", "met")
    for bar in result.bars:
        bars.add_row(bar.what, _number(bar.value), asked_for(bar), "[green]yes" if bar.met else "[red]no")
    console.print(figures)
    console.print(bars)
    for agreement in result.agreements:
        verdict = "agrees" if not agreement.differing else f"{agreement.differing:,} rows differ"
        console.print(
            f"{agreement.contestant} against {agreement.reference}: {agreement.rows:,} rows, {verdict}, "
            f"largest difference {agreement.largest_difference:.1e}",
            style="dim" if not agreement.differing else "red",
        )
    for name, reason in result.failed.items():
        console.print(f"{name}: {reason}", style="red", markup=False)


def asked_for(bar: Bar) -> str:
    """The bar's limit with its direction."""
    return f"{'≤' if bar.at_most else '≥'} {_number(bar.limit)} {bar.unit}".rstrip()


def _figure_cells(figure: Figure) -> list[str]:
    return [
        figure.contestant,
        _number(figure.value),
        figure.unit,
        "" if figure.events is None else f"{figure.events:,}",
        "" if figure.peak_mb is None else f"{figure.peak_mb:,.0f}",
        str(len(figure.repetitions)),
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
