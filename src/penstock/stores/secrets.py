"""Secret keys of a project: random bytes in a file that only its owner may read, made when first asked for."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from penstock.core.errors import StoreError
from penstock.stores.directories import sync_directory

KEY_BYTES = 32


def kept_secret(path: Path) -> bytes:
    """The key in the file `path`; made, on disk when this returns, where there is none.

    Of several processes that make it at the same time all get the same.

    Raises
    ------
    StoreError
        The file cannot be read or written, is damaged, or others than its owner may read it.
    """
    try:
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise StoreError(
            f"secret key {path}: {error}. Check that the folder is writable and the file is yours."
        ) from error


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        key = file.read(KEY_BYTES + 1)
    if mode & 0o077:
        raise StoreError(
            f"secret key {path}: its mode is {mode:04o}, so that others may read it; allowed is 0600. Run: chmod 600 {path}"
        )
    if len(key) != KEY_BYTES:
        raise StoreError(
            f"secret key {path}: {len(key)} bytes found, {KEY_BYTES} were written. Restore the file from a backup: what was made "
            "with another key will not match."
        )
    return key


def _make(path: Path) -> None:
    """Written whole under another name and linked to its own, so that whoever sees it sees all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(KEY_BYTES))
        os.fsync(descriptor)
        os.close(descriptor)
        try:
            path.hardlink_to(making)
        except FileExistsError:
            return  # another process was first
        sync_directory(path.parent)
    finally:
        making.unlink()
