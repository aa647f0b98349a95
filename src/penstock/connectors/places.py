"""Where a reader stands: the text that is committed with the rows read up to there, and the check that it still holds."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import IO

from penstock.core.errors import InputError

_GUARD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, or in one file of a folder.

    Attributes
    ----------
    file
        Name of the file; those with smaller names are done.
    at
        Byte of a file of lines, row of a Parquet row group.
    group
        Row group of a Parquet file.
    size
        Size of the file in bytes when it was last looked at.
    guard
        Checksum of what was read (of its beginning and its end); another file under the same name has another.
    done
        How many files have a smaller name.
    """

    file: str
    at: int = 0
    group: int = 0
    size: int = 0
    guard: int = 0
    done: int = 0

    def to_text(self) -> str:
        """The place as JSON.

        >>> Place("day-1.ndjson", at=120, size=400).to_text()
        '{"file":"day-1.ndjson","at":120,"group":0,"size":400,"guard":0,"done":0}'
        """
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Place:
        """The place of `to_text`; raises `InputError` for any other text."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"file offset: {text!r} found; allowed is what a FileReader returned. Start again without an offset: "
                "events with an event_id_field are recognised as duplicates."
            ) from error


def guard_of_lines(file: IO[bytes], at: int) -> int:
    """Checksum of the beginning and the end of the first `at` bytes; the file's position stays."""
    before = file.tell()
    file.seek(0)
    head = file.read(min(at, _GUARD_BYTES))
    file.seek(max(at - _GUARD_BYTES, 0))
    tail = file.read(min(at, _GUARD_BYTES))
    file.seek(before)
    return zlib.crc32(tail, zlib.crc32(head))


def guard_of_file(file: IO[bytes], size: int) -> int:
    """Checksum of a finished file, of which a Parquet file's footer is the end."""
    return guard_of_lines(file, size)
