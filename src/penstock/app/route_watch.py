"""Hot swap: a running engine takes over promotions, rollbacks and weights within a second, without a pause."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import msgspec

from penstock.app.runtime import state_folder
from penstock.core.errors import PenstockError

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.app.runtime import Runtime

LOOK_EVERY_S = 0.25
PATIENCE_S = 5.0
NOTES = "running.json"


class RouteWatch:
    """Looks for changes in registry and audit log, and loads what is new beside the engine; use it as a context manager.

    Versions are verified before they serve. What goes wrong is noted in `Runtime.problems`, and the engine goes on as it was.

    Parameters
    ----------
    runtime
        The running project.
    every_s
        How often to look.
    """

    def __init__(self, runtime: Runtime, *, every_s: float = LOOK_EVERY_S) -> None:
        self._runtime = runtime
        self._every_s = every_s
        self._stop = threading.Event()
        self._notes = runtime.folder / NOTES
        self._noted: Notes | None = None
        self._troubled = False
        self._thread = threading.Thread(target=self._watch, name="penstock-routes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        with suppress(OSError):
            self._notes.unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                if self._runtime.routes.stale():
                    self._runtime.load_routes()
                elif self._troubled:
                    self._runtime.problems.pop("routes", None)
                self._troubled = False
            except PenstockError as error:
                self._troubled, self._runtime.problems["routes"] = True, str(error)
            except Exception as error:  # noqa: BLE001 - of a file system or a server: told, and tried again at the next look
                self._troubled = True
                self._runtime.problems["routes"] = f"{type(error).__name__}: {error}"
            self._note()

    def _note(self) -> None:
        """Let other processes know what is in force, and what does not work."""
        found = _notes_of(self._runtime)
        if found != self._noted:
            aside = self._notes.with_suffix(".part")
            with suppress(OSError):
                aside.write_bytes(msgspec.json.encode(found))
                aside.replace(self._notes)
                self._noted = found


class Notes(msgspec.Struct, frozen=True):
    """What a running engine says of itself.

    Attributes
    ----------
    pid
        Its process.
    problems
        What does not work though it runs.
    routes
        By endpoint and arm the version that serves.
    shadows
        What shadow arms scored, left out, failed on, and could not store: events by ``endpoint/arm`` or endpoint.
    url
        Where its HTTP API listens; empty where it has none.
    """

    pid: int
    problems: dict[str, str]
    routes: dict[str, dict[str, str]]
    shadows: dict[str, dict[str, int]]
    url: str = ""


_notes_decoder = msgspec.json.Decoder(Notes)


def running_notes(root: Path) -> Notes | None:
    """What the engine says that runs the project in `root` now; None where none runs."""
    try:
        notes = _notes_decoder.decode((state_folder(root) / NOTES).read_bytes())
        os.kill(notes.pid, 0)
    except (OSError, msgspec.DecodeError):
        return None
    return notes


def _notes_of(runtime: Runtime) -> Notes:
    shadows = runtime.shadows
    problems = dict(runtime.problems)
    if shadows.problem:
        problems["shadows"] = shadows.problem
    return Notes(
        os.getpid(),
        problems,
        {
            name: {arm.name: arm.named.version for arm in (*route.serving, *route.shadows)}
            for name, route in ((name, runtime.routes[name]) for name in runtime.plan.endpoints)
        },
        {
            what: dict(counts)
            for what, counts in (
                ("scored", shadows.scored),
                ("left out", shadows.dropped),
                ("failed", shadows.failed),
                ("lost", shadows.lost),
            )
            if counts
        },
        runtime.url,
    )
