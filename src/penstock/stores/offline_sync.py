"""Delta commits on a local disk made durable: what a commit names, then its entry in the table's log.

The library that writes the tables leaves the writing to the operating system. Without this a table could name, after a
power cut, files whose content never reached the disk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlparse

from penstock.stores.directories import sync_directory

LOG = "_delta_log"


def local_folder(uri: str) -> Path | None:
    """Where a table lies on the local disk; None where it lies elsewhere, and durability is the object store's.

    >>> local_folder("/data/events"), local_folder("file:///data/events"), local_folder("s3://bucket/events")
    (PosixPath('/data/events'), PosixPath('/data/events'), None)
    """
    if "://" not in uri:
        return Path(uri)
    found = urlparse(uri)
    return Path(unquote(found.path)) if found.scheme == "file" else None


def sync_commits(table: Path, *, after: int) -> None:
    """Return when the commits later than version `after` are durable, with the files that they added."""
    log = table / LOG
    entries = [path for path in log.iterdir() if _version(path.name) > after]
    for path in _added(table, entries):
        _sync_file(path)
    for folder in {path.parent for path in _added(table, entries)}:
        sync_directory(folder)
    for path in [*entries, *log.glob("_last_checkpoint")]:
        _sync_file(path)
    sync_directory(log)
    if after < 0:  # the table is new, and so may be the folders around it
        for folder in (table, *table.parents[:3]):
            sync_directory(folder)
    elif entries:
        sync_directory(table)  # of new partitions


def sync_removals(table: Path, removed: Iterable[str]) -> None:
    """Return when the files of these names, relative to the table, stay gone."""
    for folder in {(table / unquote(name)).parent for name in removed}:
        if folder.is_dir():
            sync_directory(folder)


def _added(table: Path, entries: Iterable[Path]) -> list[Path]:
    """The files that log entries added and that are there."""
    found = []
    for entry in entries:
        if entry.suffix == ".json":
            actions = map(json.loads, entry.read_text("utf-8").splitlines())
            found += [table / unquote(action["add"]["path"]) for action in actions if "add" in action]
    return [path for path in found if path.exists()]


def _version(name: str) -> int:
    """The version that a file of the log is of; -1 where it is of none."""
    number = name.partition(".")[0]
    return int(number) if number.isdigit() else -1


def _sync_file(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # replaced meanwhile
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
