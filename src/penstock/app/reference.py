"""The reference of settings and reasons, made from the code: ``python -m penstock.app.reference > docs/reference.md``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from penstock.app.settings import (
    AuditSettings,
    EngineSettings,
    OfflineSettings,
    ProjectSettings,
    RegistrySettings,
    ServeSettings,
    StoreSettings,
)
from penstock.definitions.batch_configs import FILE_FORMATS
from penstock.engine.decisions import Flag
from penstock.engine.verdicts import REASONS

if TYPE_CHECKING:
    from pydantic import BaseModel

_PAGE = """# Reference

<!-- Made by `python -m penstock.app.reference > docs/reference.md`; a test checks that it is current. -->

Commands stand in [cli.md](cli.md), aggregates in [aggregates.md](aggregates.md).

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
        settings="\n".join(
            [
                *_settings("project", ProjectSettings),
                *_settings("engine", EngineSettings),
                *_settings("store", StoreSettings),
                *_settings("audit", AuditSettings),
                *_settings("offline", OfflineSettings),
                *_settings("registry", RegistrySettings),
                *_settings("serve", ServeSettings),
            ]
        ),
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
    Flag.EXPLORED: "its score meant another action; it got the default one, so that its label becomes known (`Policy(explore=...)`)",
    Flag.OVER_BUDGET: "the day had as many alerts as the policy allows; it got the action that is taken then (`Policy(cap=...)`)",
}


def _settings(section: str, model: type[BaseModel]) -> list[str]:
    return [
        f"| `[{section}] {name}` | {_shown(field.default)} | {field.description} |"
        for name, field in model.model_fields.items()
    ]


def _shown(default: object) -> str:
    return "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
