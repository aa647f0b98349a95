"""Which events entered a decision. The log is read up to it: a short one here, a long one by a process of its own beside the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from http import HTTPStatus
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from penstock.app.explaining import as_json
from penstock.app.runtime import open_reader
from penstock.core.errors import StoreError
from penstock.engine.provenance import provenance
from penstock.serving.problems import ProblemError

if TYPE_CHECKING:
    from penstock.app.event_view import EventView
    from penstock.serving.platform import Platform

SHORT = 50_000
"""Rows of the log that are folded in a fraction of the time that it takes to start a process."""

PATIENCE_S = 120.0
_PROGRAM = "import os; os.nice(10); from penstock.cli.main import app; app()"
_ONE_AT_A_TIME = BoundedSemaphore(1)


def provenance_of(platform: Platform, view: EventView) -> dict[str, Any]:
    """What ``penstock explain-event`` says of the features of a decision.

    Raises
    ------
    ProblemError
        Another one is being explained, or it takes too long.
    """
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "overloaded",
            "another decision is being traced back, one at a time. Ask again in a few seconds.",
            retry_after_s=2.0,
        )
    try:
        found = _folded_here(platform, view) if view.position < SHORT else _folded_beside(platform, view)
        return {name: found[name] for name in ("features", "notes", "differing")}
    finally:
        _ONE_AT_A_TIME.release()


def _folded_here(platform: Platform, view: EventView) -> dict[str, Any]:
    assert view.endpoint is not None
    with open_reader(platform.root) as store:
        return as_json(provenance(store, platform.runtime.plan, view.endpoint, view.position))


def _folded_beside(platform: Platform, view: EventView) -> dict[str, Any]:
    # By its position, so that no text of a caller is an argument of a command.
    event = ["explain-event", f"position:{view.position}", "--source", view.source]
    command = [sys.executable, "-c", _PROGRAM, *event, "--project", str(platform.root), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired as error:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "deadline",
            f"tracing back took more than {PATIENCE_S:.0f} s. Use `penstock explain-event position:{view.position} --source "
            f"{view.source}`.",
            retry_after_s=PATIENCE_S,
        ) from error
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise StoreError(f"tracing back failed: {told[-1] if told else done.returncode}") from None
    return found
