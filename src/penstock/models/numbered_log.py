"""A history in a place that numbers what is written, one after the other, and can do no more: no lock, no compare-and-set.

A row names the hash of the row before it. Of two rows written at once, which name the same row before, the one with the lower
number counts; the other is void, and its writer, who sees that, writes it again. So every reader folds the same numbers to the
same history, which is a chain as in `penstock.models.history`. Numbers have no gaps: a row that was taken out is missed, unless
it was among the newest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import msgspec

from penstock.core.chains import GENESIS
from penstock.core.errors import CorruptionError, DefinitionError
from penstock.core.types import check_name
from penstock.models.history import HistoryRow
from penstock.models.versions import STAGES

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_VERSION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class FoldedLog:
    """The rows that count, the numbers under which they were written, and all hashes up to the newest, `head`."""

    rows: tuple[HistoryRow, ...]
    numbers: frozenset[int]
    hashes: frozenset[str]
    head: str


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    previous: str
    hash: str
    row: HistoryRow


_written_decoder = msgspec.json.Decoder(_Written)


def written(row: HistoryRow, *, previous: str) -> str:
    """`row` as text, to follow the row with hash `previous`."""
    document = {"previous": previous, "hash": row.hash_after(previous), "row": asdict(row)}
    return json.dumps(document, sort_keys=True)


def fold(texts: Mapping[int, str | None], *, where: str) -> FoldedLog:
    """The history that texts of `written` make, by number.

    Raises
    ------
    CorruptionError
        Where a number is missing, or a row was changed.

    Examples
    --------
    >>> one, other, third = (
    ...     HistoryRow(1, t, "ada", "register", "m", 1, "None", "x", "d" * 64) for t in (5, 6, 7)
    ... )
    >>> late = written(other, previous=GENESIS)
    >>> after = written(third, previous=one.hash_after(GENESIS))
    >>> log = fold({1: written(one, previous=GENESIS), 2: late, 3: after}, where="here")
    >>> [row.time_us for row in log.rows], sorted(log.numbers)
    ([5, 7], [1, 3])
    """
    rows: list[HistoryRow] = []
    numbers: set[int] = set()
    head, known = GENESIS, {GENESIS}
    for expected, number in enumerate(sorted(texts), 1):
        row, previous, hashed = _parsed(texts[number], where=where, number=number)
        if number != expected or row.hash_after(previous) != hashed or previous not in known:
            raise CorruptionError(
                f"Model history {where}: row {number} does not follow from the rows before it; it was changed by hand. "
                "Restore it from a backup."
            )
        if previous == head:  # else it came too late, and was written again
            rows.append(row)
            numbers.add(number)
            head = hashed
            known.add(hashed)
    return FoldedLog(tuple(rows), frozenset(numbers), frozenset(known), head)


def _parsed(text: str | None, *, where: str, number: int) -> tuple[HistoryRow, str, str]:
    """A row of whoever may write there: its name and version become a folder here, so nothing is taken as given."""
    try:
        found = _written_decoder.decode(text or "")
        _check_row(found.row)
    except (msgspec.DecodeError, DefinitionError, UnicodeEncodeError) as error:
        raise CorruptionError(
            f"Model history {where}: row {number} is not one of Penstock's ({error}). Restore it from a backup."
        ) from error
    return found.row, found.previous, found.hash


def _check_row(row: HistoryRow) -> None:
    check_name(row.name, what="Model")
    if not 1 <= row.version <= _MAX_VERSION:
        raise DefinitionError(f"version is {row.version}; allowed is a whole number from 1 on")
    if row.stage not in STAGES:
        raise DefinitionError(f"stage is {row.stage!r}; allowed are {', '.join(STAGES)}")
    if _DIGEST.fullmatch(row.digest) is None:
        raise DefinitionError(f"digest is {row.digest!r}; allowed is a SHA-256 in hexadecimal")
