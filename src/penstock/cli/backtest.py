"""``penstock backtest``: a past period decided again by another model, policy, threshold, rule or feature, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import AsJson, Project, project_root
from penstock.cli.output import hint, number, print_facts, print_json, print_table, progress_bar, say, tell
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.app.backtesting import Backtest
    from penstock.monitoring.backtest import Summary

ABREAST = 3
"""How many alternatives stand beside what was decided in 80 columns."""


def backtest(
    endpoint: Annotated[
        str | None,
        typer.Argument(metavar="[ENDPOINT]", help="The endpoint; default: the only one.", show_default=False),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Events from this time on, like 2026-01-31; UTC.", show_default=False),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Events before this time.", show_default=False)
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="NAME:VERSION", help="A version to try; may be repeated.", show_default=False
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold", metavar="ACTION=NUMBER", help="In place of the policy's.", show_default=False
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="Another policy of the definitions.", show_default=False),
    ] = None,
    definitions: Annotated[
        Path | None,
        typer.Option(
            "--definitions", help="Another project's folder: its features, rules, policy.", show_default=False
        ),
    ] = None,
    key_list: Annotated[
        list[str] | None,
        typer.Option(
            "--list",
            metavar="NAME=FILE",
            help="Members of a list to try: FILE.csv, keys a line, or another list's name; may be repeated.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the report as a page to this file.")
    ] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Decide on a past period again, and compare.

    Every logged decision of the period is made anew by other models (--model), thresholds, policy or definitions, and set beside what was
    decided: what would change, alerts, hits as far as labels are known, money by the policy's costs. Without any of these the
    definitions as they stand now are tried on the scores as they were. Nothing is written to the log.

    A list of keys is tried with --list, whether it is in force or not: a .csv file has the key's columns and, if it has them, changed_at,
    listed and expires_at. A key counts from its changed_at, by the events' own time, else from the beginning.
    """
    from penstock.app.backtesting import Asked
    from penstock.app.backtesting import backtest as run

    asked = Asked(
        start_us=_moment("--from", start),
        end_us=_moment("--to", end),
        models=tuple(model or ()),
        thresholds=dict(_threshold(text) for text in threshold or ()),
        policy=policy,
        definitions=None if definitions is None else project_root(definitions),
        lists=dict(_list(text) for text in key_list or ()),
    )
    with progress_bar("backtest") as progress:
        found = run(project_root(project), endpoint, asked, progress=progress)
    if as_json:
        print_json(found.to_dict())
    elif not found.sides:
        say(f"endpoint {found.endpoint}: nothing was decided in that period.")
        hint("penstock status")
    else:
        _print(found)
    if html is not None and found.sides:
        from penstock.app.backtest_page import backtest_page

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(backtest_page(found), "utf-8")
        tell(f"written to {html}")


def _moment(option: str, text: str | None) -> int | None:
    from datetime import datetime

    from penstock.core.time import to_us

    if text is None:
        return None
    try:
        return to_us(datetime.fromisoformat(text))
    except ValueError as error:
        raise InputError(
            f"backtest: {option} is {text!r}; allowed is a time like 2026-01-31T12:00. Correct it."
        ) from error


def _threshold(text: str) -> tuple[str, float]:
    action, _, value = text.partition("=")
    try:
        return action, float(value)
    except ValueError as error:
        raise InputError(
            f"backtest: --threshold is {text!r}; allowed is ACTION=NUMBER, like block=0.8. Correct it."
        ) from error


def _list(text: str) -> tuple[str, Path | str]:
    """A list and its members: a file where there is one or the text looks like one, else the name of another list."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(
            f"backtest: --list is {text!r}; allowed is NAME=FILE or NAME=OTHER_LIST, like blocked_cards=stolen.csv. Correct it."
        )
    file = Path(value)
    return name, file if file.exists() or not value.isidentifier() else value


def _print(found: Backtest) -> None:
    from penstock.core.time import from_us

    stored, *others = found.sides
    say(f"endpoint {found.endpoint}, {number(stored.decided)} decisions")
    facts = [
        (
            "from",
            f"{from_us(found.first_us or 0):%Y-%m-%d %H:%M} to {from_us(found.last_us or 0):%Y-%m-%d %H:%M}",
        )
    ]
    if found.recomputed:
        facts.append(("features", f"recomputed from the log for {number(found.recomputed)} events"))
    if found.weighted:
        facts.append(("labels", "of explored events count by their propensity"))
    facts += [(f"list {one.name}", str(one)) for one in found.lists]
    print_facts(facts)
    for first in range(0, len(others), ABREAST):
        say()
        _print_sides([stored, *others[first : first + ABREAST]])
    for side, changes in zip(others, found.changes, strict=True):
        _print_changes(side.name, changes)
    hint("--html FILE draws alerts and money by day")


def _print_sides(sides: Sequence[Summary]) -> None:
    from penstock.app.backtest_page import figures

    print_table(figures(sides), head=("", *(side.name for side in sides)), right=range(1, 1 + len(sides)))


def _print_changes(name: str, changes: object) -> None:
    from penstock.app.backtest_page import change_rows

    say()
    rows = change_rows(changes)  # type: ignore[arg-type]
    if not rows:
        say(f"{name}: decides as was decided, on every event")
        return
    say(f"{name} would decide otherwise:")
    print_table(rows, head=("decided", "instead", "events"), right=(2,))
