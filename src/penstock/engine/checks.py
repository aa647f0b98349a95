"""Typed values to columns, and the checks that every way in shares.

Values come here of the right type but not yet believed. A row that fails is noted in `Problems`, by its number; the
first problem found in a row is the one that counts, and its place in the column is filled with a harmless value.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.limits import MAX_TEXT_BYTES
from penstock.core.time import EPOCH, MICROSECOND, to_us
from penstock.core.types import Field
from penstock.engine.verdicts import Problems
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text, offsets_of

FIRST_US = to_us(datetime(1900, 1, 1, tzinfo=UTC))
LAST_US = to_us(datetime(2200, 1, 1, tzinfo=UTC))

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def at(field: Field) -> str:
    """Where a problem was found, as msgspec says it."""
    return f"at `$.{field.name}`"


def column_of(values: Sequence[Any], field: Field, problems: Problems) -> Column:
    """A column of Python values of the field's type; None is null."""
    kind = field.dtype.kind
    if kind == "text":
        return _texts(values, field, problems)
    valid = None
    if None in values:
        valid = np.fromiter((v is not None for v in values), np.bool_, len(values))
        values = [0 if v is None else v for v in values]
    if kind == "time":
        return Numeric(_times(values), valid)
    if kind == "float":
        return Numeric(np.array(values, np.float64), valid)
    return Numeric(np.array(values, np.bool_ if kind == "bool" else np.int64), valid)


def _times(values: Sequence[Any]) -> IntArray:
    if not values or type(values[0]) is int:
        try:
            return np.array(values, np.int64)
        except TypeError:  # datetimes among them
            pass
    try:
        return np.array([(v - EPOCH) // MICROSECOND for v in values], np.int64)
    except TypeError:  # integers or naive datetimes among them
        return np.array([to_us(v) if isinstance(v, datetime) else v for v in values], np.int64)


def _texts(values: Sequence[str | None], field: Field, problems: Problems) -> Text:
    try:
        text = Text.from_strings(values)
    except UnicodeEncodeError:
        values = [_encodable(v, row, field, problems) for row, v in enumerate(values)]
        text = Text.from_strings(values)
    return in_nfc(text)


def in_nfc(text: Text) -> Text:
    """`text` in Unicode's NFC, so that a name is one key however it was typed."""
    if not len(text.data) or text.data.max() <= 0x7F:
        return text
    return Text.from_strings([v if v is None else unicodedata.normalize("NFC", v) for v in text.to_strings()])


def _encodable(value: str | None, row: int, field: Field, problems: Problems) -> str | None:
    try:
        if value is not None:
            value.encode()
    except UnicodeEncodeError as error:
        problems.setdefault(row, ("invalid_unicode", f"{error.reason} - {at(field)}"))
        return ""
    return value


def utf8_column(
    offsets: IntArray,
    data: npt.NDArray[np.uint8],
    valid: BoolArray | None,
    *,
    field: Field,
    problems: Problems,
) -> Text:
    """A column of bytes that should be UTF-8, in NFC."""
    text = Text(offsets, data, valid)
    if not len(data) or data.max() <= 0x7F:
        return text
    whole, bounds = data.tobytes(), offsets.tolist()
    pieces = [whole[a:b] for a, b in pairwise(bounds)]
    encoded = [p if p.isascii() else _normalized(p, row, field, problems) for row, p in enumerate(pieces)]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    return Text(offsets_of(lengths), np.frombuffer(b"".join(encoded), np.uint8), valid)


def _normalized(piece: bytes, row: int, field: Field, problems: Problems) -> bytes:
    try:
        return unicodedata.normalize("NFC", piece.decode()).encode()
    except UnicodeDecodeError as error:
        problems.setdefault(row, ("invalid_unicode", f"{error.reason} - {at(field)}"))
        return b""


_PIECE = 1 << 15


def checked(columns: Columns, fields: Sequence[Field], problems: Problems) -> Columns:
    """Note the rows whose values are of the right type but not allowed; Float32 values are rounded to that type."""
    found: dict[str, Column] = {}
    for field in fields:
        column = columns[field.name]
        if isinstance(column, Text):
            _check_texts(column, field, problems)
        elif field.dtype.kind == "float":
            column = _checked_floats(column, field, problems)
        elif field.dtype.kind == "time":
            _check_times(column, field, problems)
        found[field.name] = column
    return Columns(columns.length, found)


def _check_texts(column: Text, field: Field, problems: Problems) -> None:
    if len(column.data) <= MAX_TEXT_BYTES:
        return
    # In pieces that the CPU's cache holds: of millions of texts the lengths alone would be as large as the offsets.
    pieces = (column.offsets[i : i + _PIECE + 1] for i in range(0, len(column), _PIECE))
    if max(int(np.diff(piece).max()) for piece in pieces) > MAX_TEXT_BYTES:
        lengths = np.diff(column.offsets)
        _note(lengths > MAX_TEXT_BYTES, "too_long", lambda row: f"{lengths[row]} bytes", field, problems)


def _checked_floats(column: Numeric, field: Field, problems: Problems) -> Numeric:
    values = column.values
    finite = np.isfinite(values)
    if not finite.all():
        bad = ~finite if column.valid is None else ~finite & column.valid
        _note(bad, "not_finite", lambda row: str(values[row]), field, problems)
        values = np.where(finite, values, 0.0)
    if field.dtype.name != "Float32":
        return Numeric(values, column.valid)
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32).astype(np.float64)
    if not np.isfinite(rounded).all():
        _note(~np.isfinite(rounded), "number_out_of_range", lambda row: str(values[row]), field, problems)
    return Numeric(rounded, column.valid)


def _check_times(column: Numeric, field: Field, problems: Problems) -> None:
    values: npt.NDArray[Any] = column.values
    if not len(values) or (values.min() >= FIRST_US and values.max() <= LAST_US):
        return
    bad = (values < FIRST_US) | (values > LAST_US)
    if column.valid is not None:
        bad &= column.valid
    _note(bad, "time_out_of_range", lambda row: f"{values[row]} microseconds", field, problems)


def _note(
    bad: npt.NDArray[np.bool_], reason: str, found: Callable[[int], str], field: Field, problems: Problems
) -> None:
    for row in np.flatnonzero(bad).tolist():
        problems.setdefault(row, (reason, f"{found(row)} found - {at(field)}"))


def single_of(field: Field) -> Callable[[Any], Column | None]:
    """What makes the column of one plainly good value of `field`, and None of any other."""
    return _SINGLE.get(field.dtype.name, _not_plain)


def _not_plain(_: object) -> None:
    return None


def _single_text(value: str | None) -> Text | None:
    if type(value) is not str or (size := len(value)) > MAX_TEXT_BYTES or not value.isascii():
        return None
    offsets = _ONE_TEXT[size] if size < _SHORT else np.array((0, size), np.int64)
    return Text(offsets, np.frombuffer(value.encode(), _U1))


def _one_text_offsets(sizes: int) -> list[IntArray]:
    """The offsets of one text, by its size, for all texts to share."""
    table = np.zeros((sizes, 2), np.int64)
    table[:, 1] = np.arange(sizes)
    table.setflags(write=False)
    return list(table)


_SHORT = 64
_ONE_TEXT = _one_text_offsets(_SHORT)
_U1 = np.dtype(np.uint8)


def _single_float(value: float | None) -> Numeric | None:
    # A comparison with NaN is false; an int that no float64 can hold is compared exactly.
    if value is None or not -1e300 < value < 1e300:
        return None
    return Numeric(np.array((value,), np.float64))


def _single_time(value: object) -> Numeric | None:
    if type(value) is not int or not FIRST_US <= value <= LAST_US:
        return None
    return Numeric(np.array((value,), np.int64))


def _single_integer(value: int | None) -> Numeric | None:
    return None if value is None else Numeric(np.array((value,), np.int64))


def _single_boolean(value: object) -> Numeric | None:
    return None if value is None else Numeric(np.array((value,), np.bool_))


_SINGLE: dict[str, Callable[[Any], Column | None]] = {
    "String": _single_text,
    "Float64": _single_float,
    "Timestamp": _single_time,
    "Int32": _single_integer,
    "Int64": _single_integer,
    "Bool": _single_boolean,
}
