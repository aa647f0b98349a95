"""`python -m examples.fraud`: data, training set, four models, a live stream with its labels, and a report.

It may be interrupted at any moment (Ctrl-C, `kill -9`): run again, it continues where it was.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING

from rich.console import Console

from penstock.core.errors import PenstockError

from .commands import in_project, shown, this_python
from .creditcard import CREDITCARD_FILE
from .world import CREDITCARD_PROJECT, HERE, SMALL, World, events_of, labels_of

if TYPE_CHECKING:
    from penstock.app import Runtime
    from penstock.app.settings import Settings

INTERRUPTED, FAILED = 130, 3
NEXT = (
    (in_project("status", HERE), "counters, labels, the champion"),
    (in_project("audit", HERE), "recompute every vector from the log and compare"),
    (in_project("explain", HERE), "what the definitions were compiled to"),
    (in_project("registry list", HERE), "the four models, their figures and stages"),
    (f"{this_python()} -m examples.fraud --enriched", "what more features gain, by the same protocol"),
    (f"{this_python()} -m examples.fraud --online", "models that learn each label when it arrives"),
    (f"{this_python()} -m examples.fraud --reset --rate 5000 --days 7", "again, slowly enough to watch"),
    (f"less {shown(HERE / 'definitions.py')}", "all that a user writes"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; the process's exit code."""
    options = _options(arguments)
    console = Console(width=80)
    folder = options.folder or (HERE / "data" / "small" if options.small else HERE)
    if options.reset:
        _forget(folder)
        _forget(options.folder or CREDITCARD_PROJECT)
    try:
        if options.creditcard:
            return run_creditcard(console, options)
        if options.enriched:
            from .enriched_run import run_enriched

            return run_enriched(console, World(folder=folder))
        if options.online:
            from .online_run import run_online

            return run_online(console, World(SMALL, folder) if options.small else World(folder=folder))
        code = run(console, options, folder)
        if not code and folder == HERE and CREDITCARD_FILE.is_file():
            code = run_creditcard(console, options)
    except KeyboardInterrupt:
        console.print("\nInterrupted. Run it again to continue.")
        return INTERRUPTED
    except (PenstockError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return code


def _forget(folder: Path) -> None:
    """Remove state and reports, not data."""
    for name in (".penstock", "reports"):
        shutil.rmtree(folder / name, ignore_errors=True)


def run(console: Console, options: argparse.Namespace, folder: Path) -> int:
    """The simulated world."""
    started = perf_counter()
    world = World(SMALL, folder) if options.small else World(folder=folder)
    _step(console, 1, "Data")
    console.print(
        f"{world.table.num_rows:,} payments of {world.config.days} days, simulated once, then read."
    )

    _step(console, 2, "Training set and models")
    from penstock.definitions.project import load_project
    from penstock.monitoring.report import Section
    from penstock.monitoring.terminal import render_grid

    from .training import comparison, protocol_text, train_all

    project = load_project(HERE)
    found = train_all(world, project, lambda line: console.print(line, highlight=False))
    grid = comparison(found, published=not options.small)
    console.print(render_grid(grid))
    console.print(protocol_text(found), highlight=False)
    models = Section(title="Models in the test week", text=protocol_text(found), grid=grid)

    from penstock.app import Runtime

    from .session import draining, publish, remembered, report_on, run_audit

    with Runtime.open(folder, project=project, settings=_settings(options.durability)) as runtime:
        with draining() as cancelled:
            _live(console, options, world, runtime=runtime, cancelled=cancelled)
            stopped = cancelled.is_set()
        audited = None if stopped else run_audit(console, runtime)
        report = report_on(
            runtime,
            title="Card-payment fraud, live",
            speed=remembered(world.reports),
            audited=audited,
            models=models,
            commands=NEXT,
        )
    _step(console, 4, "Report")
    publish(console, report, world.reports)
    console.print(f"Done in {perf_counter() - started:.0f} s." if not stopped else "Interrupted, drained.")
    if stopped:
        return INTERRUPTED
    return 0 if audited is not None and audited.clean else 1


def _live(
    console: Console, options: argparse.Namespace, world: World, *, runtime: Runtime, cancelled: Event
) -> None:
    from .feed import Feed
    from .session import load_history, remember, run_live

    start = world.live_start
    end = None if options.days is None else start + timedelta(days=options.days)
    rows = world.with_history(start)
    first = rows.num_rows - world.between(start).num_rows
    last = first + world.between(start, end).num_rows
    feed = Feed(runtime, "transactions", events_of(rows), "chargebacks", labels_of(rows))
    _step(console, 3, f"Live from {start}: labels follow their payments by 7 days")
    if feed.done >= last:
        console.print(
            f"All {last - first:,} payments are decided already. To start over: python -m examples.fraud --reset"
        )
        return
    load_history(console, feed, first, cancelled=cancelled)
    if feed.done > first:
        console.print(f"Continuing after {feed.done - first:,} decided payments.", highlight=False)
    if not cancelled.is_set():
        speed = run_live(
            console, runtime, feed, start=first, stop=last, rate=options.rate, cancelled=cancelled
        )
        remember(speed, world.reports)


def run_creditcard(console: Console, options: argparse.Namespace) -> int:
    """Kaggle's file."""
    from .creditcard_run import run_file

    return run_file(console, options, settings=_settings(options.durability))


def _settings(durability: str) -> Settings:
    from penstock.app.settings import load_settings

    settings = load_settings(HERE)
    engine = settings.engine.model_copy(update={"durability": durability})
    return settings.model_copy(update={"engine": engine})


def _step(console: Console, number: int, title: str) -> None:
    console.print(f"\n[bold]{number}. {title}[/]", highlight=False)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.fraud", description=__doc__)
    parser.add_argument("--rate", type=_positive, help="live events a second (default: as fast as it goes)")
    parser.add_argument("--days", type=int, help="days to stream (default: all 47)")
    parser.add_argument(
        "--durability",
        choices=("power", "process"),
        default="power",
        help="what an acknowledged event survives: a power cut (default), or the end of the process",
    )
    parser.add_argument("--small", action="store_true", help="a fifth of the world, for a quick look")
    parser.add_argument("--reset", action="store_true", help="forget state, models and reports first")
    parser.add_argument("--creditcard", action="store_true", help="only data/creditcard.csv, Kaggle's file")
    parser.add_argument("--enriched", action="store_true", help="only what more features gain, same protocol")
    parser.add_argument("--online", action="store_true", help="only models that go on learning, four weeks")
    parser.add_argument("--folder", type=Path, help="keep data, state and reports there")
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
