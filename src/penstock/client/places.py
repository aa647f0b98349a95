"""Where the API listens, and the key to it, where nobody says."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.core.errors import ProjectError

URL_VARIABLE, KEY_VARIABLE = "PENSTOCK_URL", "PENSTOCK_KEY"


def url_of(url: str | None) -> str:
    """`url`, else ``PENSTOCK_URL``, else where the project runs that one stands in."""
    found = url or os.environ.get(URL_VARIABLE) or _running()
    return found.rstrip("/")


def key_of(key: str | None) -> str | None:
    """`key`, else ``PENSTOCK_KEY``."""
    return key or os.environ.get(KEY_VARIABLE) or None


def _running() -> str:
    from penstock.app.route_watch import running_notes
    from penstock.definitions.project import find_project

    root = find_project(Path.cwd())
    notes = running_notes(root)
    if notes is None or not notes.url:
        raise ProjectError(
            f"client: the project in {root} is not served. Start it with `penstock up`, or say where the API is: Client(url) or "
            f"{URL_VARIABLE}."
        )
    return notes.url
