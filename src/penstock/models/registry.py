"""The model registry: versions, their stages, and who made which one live when.

A registry is a folder: ``registry.db`` (SQLite) and one folder of files a version, ``NAME/VERSION``. The history is
append-only and hash-chained; the current stages are what the history says, so the two cannot disagree.
"""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from penstock.core.errors import CorruptionError, ModelError, NotFoundError, StoreError
from penstock.core.types import check_name
from penstock.models import history
from penstock.models.artifacts import sync_folder, write_files
from penstock.models.history import HistoryRow
from penstock.models.manifest import Manifest, ModelFiles, read_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from penstock.core.clock import Clock

Stage = Literal["None", "Staging", "Production", "Archived"]
Alias = Literal["champion", "challenger", "previous"]

STAGES: tuple[Stage, ...] = ("None", "Staging", "Production", "Archived")
ALIASES: tuple[Alias, ...] = ("champion", "challenger", "previous")
DATABASE_NAME = "registry.db"
BUSY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version: where its files lie and which stage it is in."""

    name: str
    version: int
    stage: Stage
    aliases: tuple[Alias, ...]
    digest: str
    created_us: int
    folder: Path

    @property
    def label(self) -> str:
        """How decisions and people name it.

        >>> ModelVersion("fraud", 3, "None", (), "", 0, Path()).label
        'fraud:3'
        """
        return f"{self.name}:{self.version}"

    def files(self) -> ModelFiles:
        """Manifest and files, every byte checked."""
        return read_files(self.folder, digest=self.digest)

    def manifest(self) -> Manifest:
        """The manifest, checked together with its files."""
        return self.files().manifest


class ModelRegistry(Protocol):
    """What the platform needs of a registry; `LocalRegistry` is the embedded one."""

    def register(self, files: ModelFiles, *, actor: str, reason: str) -> ModelVersion:
        """Store a verified version under the next number of its model's name."""

    def get(self, name: str, version: int | str) -> ModelVersion:
        """The version with a number or an alias."""

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """All versions of a model, oldest first."""

    def promote(
        self, name: str, version: int | str, *, stage: Stage = "Production", actor: str, reason: str
    ) -> ModelVersion:
        """Move a version to Staging or Production."""

    def rollback(self, name: str, *, actor: str, reason: str) -> ModelVersion:
        """Put the version that was in Production before back there."""

    def live_at(self, name: str, time_us: int) -> ModelVersion | None:
        """The version that was in Production at a time."""


class LocalRegistry:
    """A registry in a folder of this machine.

    Parameters
    ----------
    folder
        Created when it does not exist.
    clock
        Dates the history.

    Notes
    -----
    One version a name is in Production: promoting another archives it. ``champion`` is the version in Production,
    ``challenger`` the newest in Staging, ``previous`` the one that was in Production before the champion.
    Several processes may use one registry; SQLite's lock orders their changes.
    """

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._folder = folder.absolute()
        self._clock = clock
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._connect() as connection:
            connection.executescript(history.SCHEMA)

    def register(self, files: ModelFiles, *, actor: str, reason: str) -> ModelVersion:
        """Store `files` under the next number of its model's name, in stage None.

        The files are written aside, synced and renamed into place before the history names them, so that a version in the
        history always has its files. What a crash leaves behind is swept by the next registration.
        """
        name = check_name(files.manifest.name, what="Model")
        with self._change() as change:
            version = 1 + max((row.version for row in history.rows(change.connection, name=name)), default=0)
            self._place(files, self._version_folder(name, version))
            change.append(
                name,
                version,
                action="register",
                stage="None",
                actor=actor,
                reason=reason,
                digest=files.digest,
            )
        return self.get(name, version)

    def get(self, name: str, version: int | str) -> ModelVersion:
        """The version with number or alias `version`.

        Raises
        ------
        NotFoundError
            When there is none; the message lists what exists.
        """
        return _choose(name, version, self.versions(name), known=self.names)

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """All versions of `name`, oldest first; none when the name is unknown."""
        return _replay(self.history(name), self._version_folder)

    def names(self) -> tuple[str, ...]:
        """The names that have versions, sorted."""
        return tuple(sorted({row.name for row in self.history()}))

    def promote(
        self, name: str, version: int | str, *, stage: Stage = "Production", actor: str, reason: str
    ) -> ModelVersion:
        """Move a version to `stage` (Production or Staging); the version in Production before is archived."""
        if stage not in {"Production", "Staging"}:
            raise ModelError(
                f"Model {name!r}: cannot promote to {stage!r}; allowed are Staging and Production. Use archive()."
            )
        return self._move(name, version, action="promote", stage=stage, actor=actor, reason=reason)

    def archive(self, name: str, version: int | str, *, actor: str, reason: str) -> ModelVersion:
        """Take a version out of use; its files and history stay."""
        return self._move(name, version, action="archive", stage="Archived", actor=actor, reason=reason)

    def rollback(self, name: str, *, actor: str, reason: str) -> ModelVersion:
        """Put ``previous`` back in Production, archiving the champion; a second rollback returns to that one."""
        return self._move(name, "previous", action="rollback", stage="Production", actor=actor, reason=reason)

    def live_at(self, name: str, time_us: int) -> ModelVersion | None:
        """The version in Production at `time_us`, as it stood then; None when there was none."""
        until = (row for row in self.history(name) if row.time_us <= time_us)
        versions = _replay(until, self._version_folder)
        return next((version for version in versions if version.stage == "Production"), None)

    def history(self, name: str | None = None) -> tuple[HistoryRow, ...]:
        """What happened, oldest first: to one model or to all."""
        with self._connect() as connection:
            return tuple(history.rows(connection, name=name))

    def verify(self) -> int:
        """Check the chain of the history and every file of every version; the number of history rows.

        Raises
        ------
        CorruptionError
            When the history was changed.
        ArtifactError
            When a file was.
        """
        with self._connect() as connection:
            count = history.verify_chain(connection)
        for name in self.names():
            for version in self.versions(name):
                version.files()
        return count

    def head(self) -> str:
        """The newest row's hash: kept elsewhere, it proves later that no newest row was cut off."""
        with self._connect() as connection:
            return history.head(connection)[1]

    def _move(
        self, name: str, version: int | str, *, action: str, stage: Stage, actor: str, reason: str
    ) -> ModelVersion:
        """Append one row that moves a version to `stage`, unless it is there already."""
        with self._change() as change:
            present = _replay(history.rows(change.connection, name=name), self._version_folder)
            chosen = _choose(name, version, present, known=self.names)
            if chosen.stage != stage:
                change.append(
                    name,
                    chosen.version,
                    action=action,
                    stage=stage,
                    actor=actor,
                    reason=reason,
                    digest=chosen.digest,
                )
        return self.get(name, chosen.version)

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

    def _version_folder(self, name: str, version: int) -> Path:
        return self._folder / name / str(version)

    @contextmanager
    def _change(self) -> Iterator[_Change]:
        """One write transaction: all of it happens, or nothing."""
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield _Change(connection, self._clock.now_us())
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


@dataclass(frozen=True, slots=True)
class _Change:
    """A write transaction under way, and its time."""

    connection: sqlite3.Connection
    now_us: int

    def append(
        self, name: str, version: int, *, action: str, stage: Stage, actor: str, reason: str, digest: str
    ) -> None:
        """Add a row to the history. Time never runs backwards in it, even where the machine's clock does."""
        for what, text in (("actor", actor), ("reason", reason)):
            if not text.strip():
                raise ModelError(
                    f"Model {name!r}: {action} needs {what}; found {text!r}. Say who acts and why."
                )
        newest = history.newest(self.connection)
        sequence, time_us = (
            (newest.sequence + 1, max(self.now_us, newest.time_us)) if newest else (1, self.now_us)
        )
        history.append(
            self.connection,
            HistoryRow(sequence, time_us, actor, action, name, version, stage, reason, digest),
        )


def _replay(rows: Iterable[HistoryRow], folder_of: Callable[[str, int], Path]) -> tuple[ModelVersion, ...]:
    """The versions of one model as its history leaves them."""
    registered: dict[int, HistoryRow] = {}
    stages: dict[int, Stage] = {}
    lived: list[int] = []  # versions in the order in which they entered Production
    staged: list[int] = []
    for row in rows:
        registered.setdefault(row.version, row)
        if row.stage == "Production":
            stages.update({version: "Archived" for version, stage in stages.items() if stage == "Production"})
            lived.append(row.version)
        elif row.stage == "Staging":
            staged.append(row.version)
        stages[row.version] = _stage(row.stage)
    champion = next((version for version, stage in stages.items() if stage == "Production"), None)
    chosen: dict[Alias, int | None] = {
        "champion": champion,
        "challenger": next((v for v in reversed(staged) if stages[v] == "Staging"), None),
        "previous": next((v for v in reversed(lived) if v != champion), None),
    }
    return tuple(
        ModelVersion(
            name=row.name,
            version=version,
            stage=stages[version],
            aliases=tuple(alias for alias in ALIASES if chosen[alias] == version),
            digest=row.digest,
            created_us=row.time_us,
            folder=folder_of(row.name, version),
        )
        for version, row in registered.items()
    )


def _stage(text: str) -> Stage:
    for stage in STAGES:
        if stage == text:
            return stage
    raise CorruptionError(
        f"Model history: stage is {text!r}; allowed are {', '.join(STAGES)}. Restore a backup."
    )


def _choose(
    name: str, version: int | str, found: tuple[ModelVersion, ...], *, known: Callable[[], tuple[str, ...]]
) -> ModelVersion:
    for candidate in found:
        if str(candidate.version) == str(version) or version in candidate.aliases:
            return candidate
    if not found:
        names = ", ".join(known()) or "none yet"
        raise NotFoundError(
            f"Model {name!r}: nothing is registered under this name; registered are: {names}. Train it with "
            f"`penstock train {name}`, or choose one of these."
        )
    listed = ", ".join(str(v.version) + "".join(f" ({alias})" for alias in v.aliases) for v in found)
    raise NotFoundError(
        f"Model {name!r}: it has no version {version!r}; it has {listed}. Choose a number or one of the aliases "
        f"{', '.join(ALIASES)}, where set."
    )
