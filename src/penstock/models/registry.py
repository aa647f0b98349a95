"""The model registry: versions, their stages, and who made which one live when, and why.

`LocalRegistry` is a folder: ``registry.db`` (SQLite) and one folder of files a version, ``NAME/VERSION``; what was attached
to it later lies beside, in ``NAME/VERSION.more``. The history is append-only and hash-chained.
"""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from penstock.core.errors import InputError, NotFoundError, StoreError
from penstock.core.types import check_name
from penstock.models import history
from penstock.models.artifacts import sync_folder, write_bytes, write_files
from penstock.models.history import HistoryRow
from penstock.models.versions import (
    ALIASES,
    STAGES,
    Alias,
    Decide,
    ModelVersion,
    Stage,
    VersionsByHistory,
    next_row,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.core.clock import Clock
    from penstock.models.manifest import ModelFiles

__all__ = [
    "ALIASES",
    "STAGES",
    "Alias",
    "LocalRegistry",
    "ModelRegistry",
    "ModelVersion",
    "Stage",
    "check_title",
]

DATABASE_NAME = "registry.db"
BUSY_TIMEOUT_S = 10.0


class ModelRegistry(Protocol):
    """What the platform needs of a registry; `penstock.testing.registry_conformance` says how it must behave."""

    away: str
    """Why `versions` and `get` go by what this machine has seen last; empty where the registry answered."""

    def register(self, files: ModelFiles, *, actor: str, reason: str) -> ModelVersion:
        """Store a verified version under the next number of its model's name."""

    def attach(self, name: str, version: int, title: str, data: bytes) -> None:
        """Keep something about a version with it: a report, a picture. The same title again replaces it."""

    def attachment(self, name: str, version: int, title: str) -> bytes:
        """What was attached under a title."""

    def attachments(self, name: str, version: int) -> tuple[str, ...]:
        """The titles of what was attached, sorted."""

    def get(self, name: str, version: int | str) -> ModelVersion:
        """The version with a number or an alias."""

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """All versions of a model, oldest first."""

    def names(self) -> tuple[str, ...]:
        """The names that have versions, sorted."""

    def promote(
        self,
        name: str,
        version: int | str,
        *,
        stage: Stage = "Production",
        actor: str,
        reason: str,
        gate: str = "",
    ) -> ModelVersion:
        """Move a version to Staging or Production; `gate` is the digest of the report that allowed it."""

    def archive(self, name: str, version: int | str, *, actor: str, reason: str) -> ModelVersion:
        """Take a version out of use."""

    def rollback(self, name: str, *, actor: str, reason: str) -> ModelVersion:
        """Put the version that was in Production before back there."""

    def live_at(self, name: str, time_us: int) -> ModelVersion | None:
        """The version that was in Production at a time."""

    def history(self, name: str | None = None) -> tuple[HistoryRow, ...]:
        """Who did what to which version, when and why, oldest first."""

    def report(self, row: HistoryRow) -> bytes | None:
        """The gate's report by which a row's promotion was decided, its digest checked; None where there is none."""

    def verify(self) -> int:
        """Check history and files; the number of history rows."""

    def head(self) -> str:
        """The newest row's hash."""


class LocalRegistry(VersionsByHistory):
    """A registry in a folder of this machine.

    Parameters
    ----------
    folder
        Created when it does not exist.
    clock
        Dates the history.

    Notes
    -----
    Several processes may use one registry; SQLite's lock orders their changes. See `VersionsByHistory` for the stages.
    """

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._folder = folder.absolute()
        self._clock = clock
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._connect() as connection:
            history.prepare(connection)

    def register(self, files: ModelFiles, *, actor: str, reason: str) -> ModelVersion:
        """Store `files` under the next number of its model's name, in stage None.

        The files are written aside, synced and renamed into place before the history names them, so that a version in the
        history always has its files. What a crash leaves behind is swept by the next registration.
        """
        name = check_name(files.manifest.name, what="Model")
        with self._change() as connection:
            rows = tuple(history.rows(connection))
            version = 1 + max((row.version for row in rows if row.name == name), default=0)
            row = next_row(
                rows,
                self._clock.now_us(),
                name,
                version,
                action="register",
                stage="None",
                actor=actor,
                reason=reason,
                digest=files.digest,
            )
            self._place(files, self._folder_of(name, version))
            history.append(connection, row)
        return self.get(name, version)

    def attach(self, name: str, version: int, title: str, data: bytes) -> None:
        """Keep `data` with a version; on disk when this returns."""
        check_title(title)
        folder = self._more(self.get(name, version))
        folder.mkdir(exist_ok=True)
        aside = folder / f".{uuid.uuid4().hex}"
        write_bytes(aside, data)
        aside.rename(folder / title)
        sync_folder(folder)

    def attachment(self, name: str, version: int, title: str) -> bytes:
        """What `attach` kept; raises `NotFoundError` where there is nothing of that title."""
        folder = self._more(self.get(name, version))
        path = folder / check_title(title)
        if not path.is_file():
            kept = ", ".join(self.attachments(name, version)) or "nothing"
            raise NotFoundError(f"Model {name}:{version}: no {title!r} is kept with it; there is {kept}.")
        return path.read_bytes()

    def attachments(self, name: str, version: int) -> tuple[str, ...]:
        """The titles of what `attach` kept, sorted."""
        return tuple(sorted(p.name for p in self._more(self.get(name, version)).glob("[!.]*")))

    def history(self, name: str | None = None) -> tuple[HistoryRow, ...]:
        """What happened, oldest first: to one model or to all."""
        with self._connect() as connection:
            return tuple(history.rows(connection, name=name))

    def verify(self) -> int:
        """Check the chain of the history, every file of every version and every report; the number of history rows.

        Raises
        ------
        CorruptionError
            When the history or a gate's report was changed.
        ArtifactError
            When a file was.
        """
        with self._connect() as connection:
            count = history.verify_chain(connection)
        for name in self.names():
            for version in self.versions(name):
                version.files()
        for row in self.history():
            self.report(row)
        return count

    def head(self) -> str:
        """The newest row's hash: kept elsewhere, it proves later that no newest row was cut off."""
        with self._connect() as connection:
            return history.head(connection)[1]

    def _append(self, decide: Decide) -> None:
        with self._change() as connection:
            row = decide(tuple(history.rows(connection)), self._clock.now_us())
            if row is not None:
                history.append(connection, row)

    def _place(self, files: ModelFiles, folder: Path) -> None:
        """Write the files aside and rename them to `folder`, under the registry's write lock."""
        for left in self._folder.glob(".incoming-*"):
            shutil.rmtree(left)
        aside = self._folder / f".incoming-{uuid.uuid4().hex}"
        write_files(files, aside)
        folder.parent.mkdir(exist_ok=True)
        if folder.exists():  # of a registration that crashed before the history named it
            shutil.rmtree(folder)
        aside.rename(folder)
        sync_folder(folder.parent)
        sync_folder(self._folder)

    def _folder_of(self, name: str, version: int) -> Path:
        return self._folder / name / str(version)

    def _more(self, version: ModelVersion) -> Path:
        return version.folder.with_name(f"{version.version}.more")

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of it happens, or nothing."""
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        path = self._folder / DATABASE_NAME
        try:
            with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.Error as error:
            raise StoreError(
                f"Model registry {path}: {error}. Check that the folder is writable and no other process holds it; a "
                "damaged file must be restored from a backup."
            ) from error


def check_title(title: str) -> str:
    """`title` where it is a plain file name, as attachments need.

    >>> check_title("roc.png")
    'roc.png'
    """
    if Path(title).name != title or title.startswith("."):
        raise InputError(
            f"Model registry: an attachment's title is {title!r}; allowed is a plain file name. Write for example roc.png."
        )
    return title
