"""What the small examples share: a project folder from nothing, commands as a user types them, and the figures of versions."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.app.runtime import registry_of
from penstock.cli.main import app
from penstock.core.errors import ProjectError


def begin(here: Path, folder: Path) -> None:
    """`folder` as a fresh project with the definitions in `here`, which may be the same."""
    for name in (".penstock", "reports"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if folder != here:
        for name in ("definitions.py", "penstock.toml"):
            shutil.copy(here / name, folder / name)


def penstock(folder: Path, *arguments: str) -> None:
    """Run a command of Penstock on the project in `folder`, and show it."""
    print(f"\n$ penstock {' '.join(arguments)}", flush=True)
    code = app([*arguments, "--project", str(folder)], standalone_mode=False)
    if code:
        raise ProjectError(f"penstock {' '.join(arguments)} ended with code {code}; its message says why.")


def figures(folder: Path, model: str) -> Mapping[str, Any]:
    """What the newest version of a model showed in its test period."""
    newest = max(registry_of(folder).versions(model), key=lambda version: version.version)
    return newest.manifest().metrics
