"""The kept copies of a learner on disk: what is new is appended, and the file is written anew when most of it is of copies that left.

A record is its length and sealed bytes (`penstock.models.online_state.seal`), so what a kill or a power cut leaves of the last one is not taken
for a copy, and nothing is parsed before its seal is checked. Reading ends at the first record that is not whole; what is before it is as it was
published, to the last bit. A copy whose model is the one before it, as of an estimator that was not fitted again since, is written without it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from penstock.core.errors import ArtifactError
from penstock.models.learned_copies import Copies
from penstock.models.online_state import seal, sealing_key, unseal
from penstock.models.published import Form, Published
from penstock.stores.directories import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KEPT_NAME = "copies.log"
_BEFORE_NAME = "copies.bin"
"""As an earlier Penstock wrote it, whole."""
_LENGTH_BYTES = 4
_SPARE_BYTES = 1 << 16
"""The file is not written anew for less that is of no use in it."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A copy; without a form, that of the record before it."""

    labels: int
    position: int
    definition: str
    log: str
    erasures: int
    form: Form | None = None


_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Record)


class CopiesLog:
    """The kept copies of a version, for its only writer.

    Parameters
    ----------
    folder
        Of the version, below the project's states.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / KEPT_NAME
        self.copies, self._size = _read(self._path)
        self._in_file = self._path.stat().st_size if self._path.exists() else 0
        self._whole = self._in_file != self._size
        """Whether it is to be written anew: something behind the last good record would hide what is appended."""
        self._waiting: list[Published] = []
        self._newest: Published | None = self.copies.newest

    def add(self, copy: Published) -> None:
        """Keep a copy, if it can be explained; on disk with the next `save`."""
        before = self.copies.newest
        if not self.copies.add(copy):
            return
        if before is not None and before.learns != copy.learns:
            self._whole = True
        self._waiting.append(copy)

    def save(self) -> None:
        """All copies that were added are on disk when this returns."""
        if not self._waiting and not self._whole:
            return
        data = b"".join(self._records(self._waiting, after=self._newest))
        if self._whole or self._size + len(data) > 2 * self.copies.size + _SPARE_BYTES:
            self._rewrite()
        else:
            self._append(data)
        self._waiting, self._newest = [], self.copies.newest

    def _append(self, data: bytes) -> None:
        is_new = not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._whole = True  # until this is on disk: what fails half way is written anew
        with self._path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_directory(self._path.parent)
        self._size, self._whole = self._size + len(data), False

    def _rewrite(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside, size = self._path.with_name(f".{KEPT_NAME}.tmp"), 0
        self._whole = True
        with aside.open("wb") as file:
            for record in self._records(self.copies.all(), after=None):
                size += file.write(record)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)
        self._path.with_name(_BEFORE_NAME).unlink(missing_ok=True)
        sync_directory(self._path.parent)
        self._size, self._whole = size, False

    def _records(self, copies: Iterable[Published], *, after: Published | None) -> Iterable[bytes]:
        key = sealing_key(self._path.parents[2])
        for copy in copies:
            form = None if after is not None and after.form == copy.form else copy.form
            record = Record(copy.labels, copy.position, copy.definition, copy.log, copy.erasures, form)
            data = seal(_ENCODER.encode(record), key=key)
            yield len(data).to_bytes(_LENGTH_BYTES, "big") + data
            after = copy


def kept_copies(folder: Path) -> Copies:
    """The copies that are kept in the folder of a version; none where there are none, or they are of another project."""
    return _read(folder / KEPT_NAME)[0]


def _read(path: Path) -> tuple[Copies, int]:
    """The copies of a file's whole records, and how many bytes those are."""
    copies, at = Copies(), 0
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return copies, 0
    key, form = sealing_key(path.parents[2]), None
    while at < len(data):
        end = at + _LENGTH_BYTES + int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        try:
            record = _DECODER.decode(unseal(data[at + _LENGTH_BYTES : end], key=key, what=path.name))
        except (ArtifactError, msgspec.DecodeError):  # cut, or not ours
            break
        form = record.form or form
        if end > len(data) or form is None:
            break
        copies.add(
            Published(form, record.labels, record.position, record.definition, record.log, record.erasures)
        )
        at = end
    return copies, at
