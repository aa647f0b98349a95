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
from penstock.app.runtime import state_folder, store_path
from penstock.app.settings import load_settings
from penstock.core.clock import Clock
from penstock.core.errors import CorruptionError, ProjectError
from penstock.definitions.loading import SETTINGS_FILE
from penstock.stores.copies import copy_database, is_database
from penstock.stores.reader import ProjectReader

MANIFEST = "backup.json"
LEFT_OUT = frozenset({"ids", "live.bin", "offline", "online", "snapshots", "tmp", "jobs"})
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
    store_id, log_length
        Which store, and how many events and labels its log holds.
    files
        The SHA-256 of every file, by its path in the state folder.
    """

    penstock: str
    taken_us: int
    store_id: str
    log_length: int
    files: dict[str, str]


def back_up(root: Path, target: Path, *, clock: Clock) -> Backup:
    """Copy what the project in `root` keeps to `target`, a folder that there is not yet; a running project goes on.

    Raises
    ------
    ProjectError
        The project has never run, or `target` exists.
    StoreError, CorruptionError
        A database cannot be read, or is damaged; no backup is left.
    """
    if not store_path(root).exists():
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
        found = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Backup)
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
    with ProjectReader.open_reader(target / _STORE) as store:
        found = Backup(
            penstock.__version__,
            taken_us,
            store.store_id,
            store.next_position,
            {name: _digest(target / name) for name in names},
        )
    (target / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(asdict(found))))
    return found


def _names(state: Path) -> Iterator[str]:
    """The files to copy, in order."""
    yield from (name for name in BEFORE if (state / name).is_file())
    for path in sorted(state.rglob("*")):
        name = path.relative_to(state)
        if name.parts[0] not in LEFT_OUT and str(name) not in BEFORE and _stays(path):
            yield str(name)


def _stays(path: Path) -> bool:
    return path.is_file() and not path.name.endswith(_PASSING) and not path.name.startswith(".")


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
