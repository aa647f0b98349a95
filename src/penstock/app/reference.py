"""The reference of aggregates, settings and reasons, made from the code: ``python -m penstock.app.reference > docs/reference.md``."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from penstock.app.settings import EngineSettings, ProjectSettings
from penstock.core.errors import DefinitionError
from penstock.core.types import ALL_TYPES, Field
from penstock.definitions.aggregates import FUNCTIONS, Aggregate
from penstock.definitions.batch_configs import FILE_FORMATS
from penstock.engine.decisions import Flag
from penstock.engine.verdicts import REASONS

if TYPE_CHECKING:
    from pydantic import BaseModel

_EXACT = {
    "count": ("0", "exact"),
    "count_distinct": ("0", "exact"),
    "sum": ("0", "Float: correctly rounded (`math.fsum`); Int: exact, null beyond 64 bits"),
    "mean": ("null", "the correctly rounded sum, divided once by the count"),
    "min": ("null", "exact"),
    "max": ("null", "exact"),
    "last": ("null", "exact: the latest in row order that is not null"),
    "var_pop": ("null", "the exact rational value, correctly rounded"),
    "var_samp": ("null, also for one row", "the exact rational value, correctly rounded"),
    "stddev_pop": ("null", "square root of the rounded variance"),
    "stddev_samp": ("null, also for one row", "square root of the rounded variance"),
    "time_since_last": ("null", "seconds since the latest other row; one division of exact microseconds"),
}
_WINDOW = timedelta(hours=1)

_PAGE = """# Reference

<!-- Made by `python -m penstock.app.reference > docs/reference.md`; a test checks that it is current. -->

Commands stand in [cli.md](cli.md).

## Aggregates

Every function takes a window of any length and an offset, and a `where=` column. Nulls are skipped; a float that is not finite
counts as null, and so does a result that is not finite. Cost of an event in order: O(1), amortised, whatever the window's
length; `min` and `max` look at the whole window again after a late event.

| function | takes | gives | empty window | exactness |
|---|---|---|---|---|
{aggregates}

## Settings

`penstock.toml`, or the environment: `PENSTOCK_ENGINE__DURABILITY=process`.

| setting | default | meaning |
|---|---|---|
{settings}

Files: {formats}.

## Why an event becomes a dead letter

| reason | meaning |
|---|---|
{reasons}

## Flags of a decision

| flag | meaning |
|---|---|
{flags}
"""


def reference() -> str:
    """The page."""
    return _PAGE.format(
        aggregates="\n".join(map(_aggregate, FUNCTIONS)),
        settings="\n".join([*_settings("project", ProjectSettings), *_settings("engine", EngineSettings)]),
        formats=", ".join(f"`{name}`" for name in FILE_FORMATS),
        reasons="\n".join(f"| `{reason}` | {meaning} |" for reason, meaning in sorted(REASONS.items())),
        flags="\n".join(f"| `{str(flag.name).lower()}` | {_FLAGS[flag]} |" for flag in Flag),
    )


_FLAGS = {
    Flag.LATE: "the event was older than its key's newest, and was put in its place",
    Flag.TOO_LATE: "the event was older than the source's `allowed_lateness`: scored, but not part of later features",
    Flag.DEGRADED: "a feature function failed on the event, or the model gave no number",
    Flag.NO_MODEL: "no model version was in production",
    Flag.ERASED: "the event was forgotten; score and features are gone",
    Flag.UNVERIFIABLE: "an event that its features had seen was forgotten; they cannot be recomputed",
}


def _aggregate(function: str) -> str:
    taken = {}
    for dtype in ALL_TYPES:
        try:
            taken[dtype.name] = Aggregate(Field("x", dtype), function, time_window=_WINDOW).dtype.name
        except DefinitionError:
            continue
    types = "any type" if len(taken) == len(ALL_TYPES) else ", ".join(taken)
    given = set(taken.values())
    gives = "the column's type" if taken == {name: name for name in taken} else " or ".join(sorted(given))
    empty, exactness = _EXACT[function]
    return f"| `{function}` | {types} | {gives} | {empty} | {exactness} |"


def _settings(section: str, model: type[BaseModel]) -> list[str]:
    return [
        f"| `[{section}] {name}` | {_shown(field.default)} | {field.description} |"
        for name, field in model.model_fields.items()
    ]


def _shown(default: object) -> str:
    return "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
