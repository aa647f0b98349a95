"""What a learner keeps on this machine, sealed: nothing is parsed, let alone unpickled, before its seal is checked.

Objects of River and scikit-learn can only be kept as pickles, and a pickle is code. This is the one module that makes and reads
them. It reads only what carries the seal of this project: an HMAC with a key that lies in the project's state folder, readable
for its owner alone, and leaves it never. A state from anywhere else is refused; it can always be learned anew from the log.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle  # noqa: TID251 - only of bytes that this project has sealed
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from penstock.core.errors import ArtifactError, StoreError

MAGIC = b"PNSKOL1\n"
KEY_NAME, KEY_BYTES = "key", 32
_SEAL_BYTES = hashlib.sha256().digest_size


def sealing_key(folder: Path) -> bytes:
    """The key of the project whose learners' states lie in `folder`; made when there is none."""
    path = folder / KEY_NAME
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return _read_key(path)
    aside = folder / f".{KEY_NAME}-{secrets.token_hex(8)}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # another process was first; its key counts
        path.hardlink_to(aside)
    aside.unlink()
    return _read_key(path)


def seal(data: bytes, *, key: bytes) -> bytes:
    """`data` behind its seal.

    >>> unseal(seal(b"state", key=b"k"), key=b"k", what="state of 'fraud'")
    b'state'
    """
    return MAGIC + _tag(data, key) + data


def unseal(sealed: bytes, *, key: bytes, what: str) -> bytes:
    """The bytes that `seal` was given.

    Raises
    ------
    ArtifactError
        When the seal is not this project's: the bytes were changed, cut, or come from elsewhere.
    """
    start = len(MAGIC) + _SEAL_BYTES
    data = sealed[start:]
    if sealed[: len(MAGIC)] != MAGIC or not hmac.compare_digest(sealed[len(MAGIC) : start], _tag(data, key)):
        raise ArtifactError(
            f"{what}: its seal is not this project's; it was changed, cut, or made elsewhere, and is not read. Leave it: what "
            "the model knows is learned anew from the log."
        )
    return data


def dump(value: Any) -> bytes:
    """An object of this process as bytes. They mean nothing until they are sealed."""
    return pickle.dumps(value, protocol=5)


def load(data: bytes) -> Any:
    """The object of `dump`; `ArtifactError` where its library cannot read it. `data` must come out of `unseal`."""
    try:
        return pickle.loads(data)  # noqa: S301 - see above
    except Exception as error:  # each object is read by code of its own library
        raise ArtifactError(
            f"learner's object: it cannot be read any more ({type(error).__name__}: {error}); the library that wrote it has "
            "changed. What the model knows is learned anew from the log."
        ) from error


def _tag(data: bytes, key: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _read_key(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise StoreError(
            f"learner's key {path}: it has {len(key)} bytes; expected are {KEY_BYTES}. Remove it: states sealed with it are "
            "then learned anew from the log."
        )
    return key
