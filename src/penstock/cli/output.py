"""What commands print: data on stdout, everything else on stderr; tables that fit 80 columns."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

WIDTH = 80
Progress = Callable[[int, int], None]


def say(text: str = "") -> None:
    """A line of a result, on stdout."""
    typer.echo(text)


_tellers: list[Callable[[str], None]] = [lambda text: typer.echo(text, err=True)]


def tell(text: str) -> None:
    """A line for the person watching, on stderr."""
    _tellers[-1](text)


@contextmanager
def telling(by: Callable[[str], None]) -> Iterator[None]:
    """While open, lines for the person watching go there instead: into the log, where stderr is one."""
    _tellers.append(by)
    try:
        yield
    finally:
        _tellers.remove(by)


def hint(text: str) -> None:
    """What to do next, after a blank line."""
    typer.echo(f"\nNext: {text}")


def print_json(value: Any) -> None:
    """One JSON document, indented; NaN and infinities are null."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def print_line(value: Any) -> None:
    """One line of NDJSON."""
    typer.echo(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False))


def print_table(rows: Sequence[Sequence[str]], *, head: Sequence[str], right: Sequence[int] = ()) -> None:
    """A table under `head`; columns `right` are aligned to the right. Long cells are wrapped to fit the width."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, title in enumerate(head):
        table.add_column(title, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_escaped(cell) for cell in row))
    _console().print(table)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns; a long value is wrapped under itself, but no word is cut."""
    width = max((len(name) for name, _ in facts), default=0) + 2
    for name, value in facts:
        lines = textwrap.wrap(value, WIDTH - width, break_long_words=False, break_on_hyphens=False) or [""]
        for i, line in enumerate(lines):
            say(f"{'' if i else name:<{width}}{line}".rstrip())


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A bar on stderr, where that is a terminal: a function to call with (done, total)."""
    if not sys.stderr.isatty():
        yield _no_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _no_progress(_done: int, _total: int) -> None:
    """Draw nothing."""


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; an absent one is a dash.

    >>> number(0.12345), number(12345678), number(None)
    ('0.123', '12,345,678', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def size(count: int) -> str:
    """Bytes for people.

    >>> size(999), size(1_500_000)
    ('999 B', '1.5 MB')
    """
    value, units = float(count), ("B", "kB", "MB", "GB", "TB")
    for unit in units:
        if value < 1000 or unit == units[-1]:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def moment(us: int) -> str:
    """An instant for people, in UTC to the second.

    >>> moment(0)
    '1970-01-01 00:00:00Z'
    """
    from penstock.core.time import from_us

    return from_us(us).strftime("%Y-%m-%d %H:%M:%SZ")


def printable(data: bytes, limit: int = 200) -> str:
    r"""Bytes of unknown origin for a terminal: control characters escaped, at most `limit` characters.

    >>> printable(b"a" + bytes([27]) + b"[2J")
    'a\\x1b[2J'
    """
    text = data[:limit].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown + ("…" if len(data) > limit else "")


def _console() -> Any:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else WIDTH, highlight=False, soft_wrap=False)


def _escaped(cell: str) -> str:
    from rich.markup import escape

    return escape(cell)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
