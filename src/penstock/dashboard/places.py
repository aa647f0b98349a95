"""Where the server and the process of its pages find each other, in a folder that is theirs."""

from __future__ import annotations

from pathlib import Path

READING_PLAN = "/reading-plan"
"""Path on the API's socket of what one needs to know of the definitions in force, to read stored decisions."""


def api_socket(folder: Path) -> Path:
    """Where the API listens for the pages."""
    return folder / "api"


def pages_socket(folder: Path) -> Path:
    """Where the pages listen."""
    return folder / "pages"
