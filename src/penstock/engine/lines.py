"""The lines of an NDJSON buffer, and whether it can be decoded in one call."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from penstock.core.limits import MAX_EVENT_BYTES
from penstock.kernel.columns import IntArray

BOM = b"\xef\xbb\xbf"
_NEWLINE, _RETURN, _OPEN, _CLOSE = b"\n\r{}"


class Lines:
    """The non-blank lines of a buffer, split only when somebody asks for one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.ends = _ends_of_objects(data)

    @cached_property
    def all(self) -> list[bytes]:
        """The lines, without the white space and byte order marks around them."""
        lines = [line.strip().removeprefix(BOM).strip() for line in self._data.split(b"\n")]
        return [line for line in lines if line]

    def __getitem__(self, row: int) -> bytes:
        if self.ends is None or "all" in self.__dict__:
            return self.all[row]
        start = int(self.ends[row - 1]) + 1 if row else 0
        return self._data[start : int(self.ends[row])].strip()


def _ends_of_objects(data: bytes) -> IntArray | None:
    """Where each line ends, if each starts with ``{``, ends with ``}`` and is not too long; else None.

    In JSON no ``}`` is followed by a line break and ``{`` inside a value, so such lines hold whole objects, and if there are
    as many objects as lines, each line holds one. That lets a whole buffer be decoded in one call.
    """
    text = np.frombuffer(data, np.uint8)
    ends = np.append(np.flatnonzero(text == _NEWLINE), len(text))
    starts = np.concatenate(([0], ends[:-1] + 1))
    last = ends - 1
    last -= text[last] == _RETURN
    if (
        (text[starts] != _OPEN).any()
        or (text[last] != _CLOSE).any()
        or (ends - starts).max() > MAX_EVENT_BYTES
    ):
        return None
    return ends
