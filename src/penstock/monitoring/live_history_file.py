"""Keeps the live history over restarts: one small file, written aside and renamed, whose digest is checked before anything of it is read."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

import msgspec

from penstock.monitoring.live_history import LiveHistory

_MAGIC = b"PSLH1\n"
_DIGEST_BYTES = 32
_MOST_BYTES = 64 << 20
"""No history is so large: what would unpack to more was not written here."""


class _Stored(msgspec.Struct, frozen=True):
    actions: list[str]
    slots: dict[str, bytes]


_stored_decoder = msgspec.msgpack.Decoder(_Stored)


def save(history: LiveHistory, path: Path) -> int:
    """Write the history, all or nothing; how many bytes it took. Raises `OSError` where it cannot."""
    actions, slots = history.dump()
    body = zlib.compress(msgspec.msgpack.encode(_Stored(list(actions), dict(slots))), 1)
    data = _MAGIC + hashlib.sha256(body).digest() + body
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    return len(data)


def load(path: Path) -> tuple[LiveHistory, str | None]:
    """The history in a file, and why it is empty where the file could not be used; an empty one, without a reason, where there is none."""
    history = LiveHistory()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return history, None
    except OSError as error:
        return history, _empty_because(path, error.strerror or str(error))
    head = len(_MAGIC) + _DIGEST_BYTES
    body = data[head:]
    if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != data[len(_MAGIC) : head]:
        return history, _empty_because(path, "it is damaged, or of another version")
    try:
        unpacked = zlib.decompressobj().decompress(body, _MOST_BYTES)
        stored = _stored_decoder.decode(unpacked)
        history.restore(stored.actions, stored.slots)
    except (zlib.error, msgspec.DecodeError, ValueError) as error:
        return LiveHistory(), _empty_because(path, str(error))
    return history, None


def _empty_because(path: Path, why: str) -> str:
    return (
        f"the live history {path.name} could not be read ({why}) and begins anew; decisions are not affected"
    )
