"""Backups of what a project keeps, made while it runs, and putting one back.

The log is the truth: what is a fold of it (snapshots, the index of ids, offline tables, what learners know) is left out and made again. The
rest is copied in an order in which nothing refers to what is not there: followers of the log before it, what its decisions name after it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

import penstock
from penstock.app.registries import is_mlflow
from penstock.app.runtime import state_folder
from penstock.app.settings import load_settings
from penstock.core.clock import Clock
from penstock.core.errors import CorruptionError, ProjectError
from penstock.definitions.loading import SETTINGS_FILE
from penstock.stores.copies import copy_database, is_database
from penstock.stores.reader import ProjectReader

MANIFEST = "backup.json"
LEFT_OUT = frozenset(
    {
        "drift",
        "ids",
        "jobs",
        "lists",
        "live.bin",
        "offline",
        "online",
        "quality.json",
        "snapshots",
        "tmp",
        "workers",
    }
)
"""Of the state folder what is made again."""
BEFORE = ("alerts.db", "shadows.db", "penstock.db")
"""Copied first, in this order; all else refers to nothing that comes later."""
_PASSING = ("-wal", "-shm", "-journal", ".lock", ".tmp")
_STORE = "penstock.db"


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds.

    Attributes
    ----------
    penstock
        The version that made it.
    taken_us
        When, in microseconds since 1970.
    stores
        How many events and labels each store's log holds, by its path in the state folder.
    files
        The SHA-256 of every file, by its path in the state folder.
    """

    penstock: str
    taken_us: int
    stores: dict[str, int]
    files: dict[str, str]

    @property
    def log_length(self) -> int:
        """How many events and labels it holds in all."""
        return sum(self.stores.values())


_backup_decoder = msgspec.json.Decoder(Backup)


def back_up(root: Path, target: Path, *, clock: Clock) -> Backup:
    """Copy what the project in `root` keeps to `target`, a folder that there is not yet; a running project goes on.

    Raises
    ------
    ProjectError
        The project has never run, or `target` exists.
    StoreError, CorruptionError
        A database cannot be read, or is damaged; no backup is left.
    """
    if load_settings(root).store.url is not None:
        raise ProjectError(
            f"backup of {root}: its log and decisions are in PostgreSQL. Copy {state_folder(root)} first and back the database up "
            "after it, by pg_dump or its archive: what the folder names is in the database then."
        )
    if not _stores(state_folder(root)):
        raise ProjectError(
            f"backup of {root}: the project has never run, so there is nothing to keep. penstock run"
        )
    if target.exists():
        raise ProjectError(f"backup: {target} exists; a backup is a new folder. Give another name.")
    taken_us = clock.now_us()
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        found = _copied(state_folder(root), unfinished, taken_us)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return found


def read_backup(folder: Path) -> Backup:
    """What the backup in `folder` holds, after every file was compared with its digest; `CorruptionError` where one differs."""
    try:
        found = _backup_decoder.decode((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise ProjectError(f"restore: {folder} is no backup: it holds no readable {MANIFEST}.") from error
    wrong = [name for name, digest in found.files.items() if _digest(folder / name) != digest]
    if wrong:
        raise CorruptionError(
            f"restore: of {folder}, {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} missing or not as written. "
            "Take another backup."
        )
    return found


def kept_elsewhere(root: Path) -> tuple[str, ...]:
    """What belongs to the project in `root` and lies outside its state folder, so in no backup."""
    uri = load_settings(root).registry.uri
    inside = not is_mlflow(uri) and (root / uri).resolve().is_relative_to(state_folder(root).resolve())
    return () if inside else (f"the model registry at {uri}",)


def restore(root: Path, folder: Path) -> Backup:
    """Put the backup in `folder` into the project in `root`, which must hold no state; the next start rebuilds the rest from the log.

    Raises
    ------
    ProjectError
        `folder` is no backup, or the project has state of its own.
    CorruptionError
        A file of the backup is not what was written.
    """
    state = state_folder(root)
    if not (root / SETTINGS_FILE).is_file():
        raise ProjectError(
            f"restore: {root} holds no {SETTINGS_FILE}: restore into the project's own folder."
        )
    found = read_backup(folder)
    if state.exists():
        raise ProjectError(
            f"restore: {state} exists, and is not overwritten. Stop the project, move that folder away, and try again."
        )
    unfinished = state.with_name(f"{state.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in found.files:
        (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / name, unfinished / name)
    unfinished.rename(state)
    return found


def _copied(state: Path, target: Path, taken_us: int) -> Backup:
    target.mkdir(parents=True, mode=0o700)
    names = list(_names(state))
    for name in names:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if is_database(state / name):
            copy_database(state / name, copy)
            copy.chmod((state / name).stat().st_mode)
        else:
            shutil.copy2(state / name, copy)
    found = Backup(
        penstock.__version__,
        taken_us,
        {name: _length(target / name) for name in _stores(target)},
        {name: _digest(target / name) for name in names},
    )
    (target / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(asdict(found))))
    return found


def _names(state: Path) -> Iterator[str]:
    """The files to copy, in order."""
    first = [name for name in BEFORE if (state / name).is_file()]
    for folder in sorted(state.glob("shards/*")):
        first += [str((folder / name).relative_to(state)) for name in BEFORE if (folder / name).is_file()]
    yield from first
    for path in sorted(state.rglob("*")):
        name = path.relative_to(state)
        own = name.parts[2:] if name.parts[0] == "shards" else name.parts
        if own and own[0] not in LEFT_OUT and str(name) not in first and _stays(path):
            yield str(name)


def _stores(state: Path) -> list[str]:
    """The store of a project, or those of its shards, in its state folder."""
    found = [state / _STORE, *sorted(state.glob(f"shards/*/{_STORE}"))]
    return [str(path.relative_to(state)) for path in found if path.is_file()]


def _length(path: Path) -> int:
    with ProjectReader.open_reader(path) as store:
        return store.next_position


def _stays(path: Path) -> bool:
    return path.is_file() and not path.name.endswith(_PASSING) and not path.name.startswith(".")


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
