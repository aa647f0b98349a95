"""Options that several commands share."""

from __future__ import annotations

import getpass
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from penstock.core.card_issuers import SHORTEST
from penstock.core.errors import InputError

Project = Annotated[
    Path | None,
    typer.Option(
        "--project", help="The project's folder; default: the one that you stand in.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]


def without_cards(text: str | None) -> str | None:
    """A reason as it may be kept: card numbers in it are masked, as at every way in."""
    if text is None or sum(map(str.isdigit, text)) < SHORTEST:
        return text
    from penstock.engine.card_numbers import masked_text

    return masked_text(text)


Reason = Annotated[
    str, typer.Option("--reason", help="Why; kept in the registry's history.", callback=without_cards)
]
Actor = Annotated[
    str | None,
    typer.Option("--actor", help="Who acts; default: the user of this machine.", show_default=False),
]


def project_root(project: Path | None) -> Path:
    """The folder of the project: the one given, or the nearest at or above the current folder."""
    from penstock.definitions.project import find_project

    if project is None:
        return find_project(Path.cwd())
    return project.resolve() if (project / "penstock.toml").is_file() else find_project(project)


def actor_name(actor: str | None) -> str:
    """Who acts: as given, else the user's name, else "unknown" where the system has none."""
    if actor:
        return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def served_at(root: Path) -> str | None:
    """Where the running project takes requests; None where it does not run, or has no HTTP."""
    from penstock.app.route_watch import running_notes

    notes = running_notes(root)
    return notes.url or None if notes is not None else None


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration_of(text: str, *, option: str) -> timedelta:
    """A duration as people write it.

    >>> duration_of("90m", option="--for")
    datetime.timedelta(seconds=5400)
    """
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if found is None:
        raise InputError(
            f"{option}: {text!r} is no duration; allowed is a whole number and s, m, h or d. Write for example 1h."
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
