"""What this machine has seen of a history that is kept elsewhere: its newest hash, so that a cut is noticed, and its rows."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.core.chains import GENESIS
from penstock.core.errors import CorruptionError
from penstock.models.numbered_log import FoldedLog, fold, written

if TYPE_CHECKING:
    from penstock.models.history import HistoryRow


class SeenHistory:
    """The history `name`, as this machine has seen it last, in files of `folder`. Several processes may use them.

    Examples
    --------
    >>> import tempfile
    >>> from penstock.models.history import HistoryRow
    >>> seen = SeenHistory(Path(tempfile.mkdtemp()), "history")
    >>> row = HistoryRow(1, 5, "ada", "register", "m", 1, "None", "x", "d" * 64)
    >>> log = fold({1: written(row, previous=GENESIS)}, where="there")
    >>> seen.remember(log)
    >>> seen.head() == log.head, seen.rows() == (row,)
    (True, True)
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.head"
        self._rows = folder / f"{name}.rows.json"

    def head(self) -> str:
        """The newest hash that was seen; to be read before the history is."""
        return self.path.read_text("utf-8") if self.path.is_file() else GENESIS

    def remember(self, log: FoldedLog) -> None:
        """Keep `log`, unless another process has seen a newer one since."""
        if self.head() == log.head and self._rows.is_file():
            return
        with self._alone():
            if self.head() not in log.hashes:
                return
            texts, previous = [], GENESIS
            for row in log.rows:
                texts.append(written(row, previous=previous))
                previous = row.hash_after(previous)
            self._replace(self._rows, msgspec.json.encode(texts))
            self._replace(self.path, log.head.encode())

    def rows(self) -> tuple[HistoryRow, ...]:
        """The rows that were seen last; none where they are not whole."""
        try:
            texts = msgspec.json.decode(self._rows.read_bytes(), type=list[str])
            log = fold(dict(enumerate(texts, 1)), where=str(self._rows))
        except (FileNotFoundError, msgspec.DecodeError, CorruptionError):
            return ()
        return log.rows if log.head == self.head() else ()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        aside = path.with_name(f".{uuid.uuid4().hex}")
        aside.write_bytes(data)
        aside.replace(path)
