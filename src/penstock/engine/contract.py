"""The one edge where data are believed: bytes, dicts and Arrow tables become typed columns, or dead letters.

Every way in has the same verdict, because each ends in the same checks:

1. decode (msgspec): JSON to a row with the source's fields; wrong types, missing fields and malformed JSON stop here;
2. columns: texts to NFC UTF-8, timestamps to int64 microseconds;
3. values: floats finite, integers in range, times between 1900 and 2200, texts of bounded length.

A refused row keeps its original bytes, a reason code and what was found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import ContractError
from penstock.core.time import to_us
from penstock.core.types import Field
from penstock.kernel.columns import Column, Columns, Numeric, Text
from penstock.plan.nodes import SourceNode

MAX_EVENT_BYTES = 1 << 20
MAX_TEXT_BYTES = 1 << 13
_FIRST_US = to_us(datetime(1900, 1, 1))
_LAST_US = to_us(datetime(2200, 1, 1))

REASONS = {
    "malformed_json": "the bytes are not one JSON object",
    "not_an_object": "a value other than an object stands where an event should",
    "missing_field": "a required field is absent",
    "null_field": "a required field is null",
    "wrong_type": "a field holds a value of another type",
    "number_out_of_range": "a number does not fit its type",
    "not_finite": "a number is NaN or infinite",
    "time_out_of_range": "an event time lies before 1900 or after 2200",
    "invalid_unicode": "a text is not valid Unicode",
    "too_long": f"a text is longer than {MAX_TEXT_BYTES} bytes",
    "event_too_large": f"the event is larger than {MAX_EVENT_BYTES} bytes",
    "in_future": "the event time is further ahead of the clock than the source's max_future_skew",
    "conflict": "the event id was accepted before with other values",
    "erased": "the event id belongs to an event that was erased",
    "view_failed": "a feature view's function failed on the event",
}

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_TYPES: dict[str, Any] = {
    "Int64": _Int64,
    "Int32": _Int32,
    "Float64": float,
    "Float32": float,
    "Bool": bool,
    "String": str,
    "Timestamp": _Int64 | datetime,
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that did not pass: its number in the input, the reason's code, what was found, its bytes."""

    row: int
    reason: str
    detail: str
    payload: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The outcome of decoding: accepted rows, their numbers in the input, and the refused ones.

    `original` gives the original bytes of an input row, for rows that are refused later.
    """

    columns: Columns
    rows: npt.NDArray[np.int64]
    refused: tuple[Refused, ...]
    original: Callable[[int], bytes]
    received: int


class Contract:
    """Decodes and checks the events of one source."""

    def __init__(self, source: SourceNode) -> None:
        self.source = source
        self._row_type = msgspec.defstruct("Event", [_member(f) for f in source.fields], gc=False, kw_only=True)
        self._decoder = msgspec.json.Decoder(self._row_type)

    def decode_json(self, data: bytes) -> Decoded:
        """Decode NDJSON: one event a line, blank lines skipped."""
        lines = _Lines(data)
        try:
            if max(len(data), 0) > MAX_EVENT_BYTES and lines.longest > MAX_EVENT_BYTES:
                return self._each(lines.all, self._decode_line, lines.__getitem__)
            rows = self._decoder.decode_lines(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._each(lines.all, self._decode_line, lines.__getitem__)
        return self._columns(rows, np.arange(len(rows)), [], lines.__getitem__, len(rows))

    def decode_dicts(self, events: Sequence[Mapping[str, Any]]) -> Decoded:
        """Decode Python dicts; timestamps may be datetimes, ISO 8601 texts or integer microseconds."""

        def original(row: int) -> bytes:
            return _as_json(events[row])

        try:
            rows = msgspec.convert(events, list[self._row_type])  # type: ignore[name-defined]
        except (msgspec.ValidationError, RecursionError):
            return self._each(events, self._convert, original)
        return self._columns(rows, np.arange(len(rows)), [], original, len(rows))

    def _each(
        self, items: Sequence[Any], decode: Callable[[Any], Any], original: Callable[[int], bytes]
    ) -> Decoded:
        rows, numbers, refused = [], [], []
        for number, item in enumerate(items):
            try:
                rows.append(decode(item))
                numbers.append(number)
            except ContractError as error:
                refused.append(Refused(number, error.reason, error.detail, original(number)))
        return self._columns(rows, np.array(numbers, np.int64), refused, original, len(items))

    def _decode_line(self, line: bytes) -> Any:
        if len(line) > MAX_EVENT_BYTES:
            raise ContractError(
                "event_too_large", f"{len(line)} bytes found; at most {MAX_EVENT_BYTES} are allowed"
            )
        return self._refusing(self._decoder.decode, line)

    def _convert(self, event: Mapping[str, Any]) -> Any:
        return self._refusing(lambda item: msgspec.convert(item, self._row_type), event)

    def _refusing(self, decode: Callable[[Any], Any], item: Any) -> Any:
        try:
            return decode(item)
        except msgspec.ValidationError as error:
            raise ContractError(_reason_of(str(error)), str(error)) from error
        except msgspec.DecodeError as error:
            reason = "invalid_unicode" if "utf-16 surrogate" in str(error) else "malformed_json"
            raise ContractError(reason, str(error)) from error
        except UnicodeDecodeError as error:
            raise ContractError("invalid_unicode", str(error.reason)) from error
        except RecursionError as error:
            raise ContractError("malformed_json", "values are nested too deeply") from error

    def _columns(
        self,
        rows: list[Any],
        numbers: npt.NDArray[np.int64],
        refused: list[Refused],
        original: Callable[[int], bytes],
        received: int,
    ) -> Decoded:
        names = [f.name for f in self.source.fields]
        lists = [[getattr(row, name) for row in rows] for name in names]
        columns: dict[str, Column] = {}
        problems: dict[int, tuple[str, str]] = {}
        for f, values in zip(self.source.fields, lists, strict=True):
            columns[f.name] = _column(values, f, problems)
        return check(
            self.source, Columns(len(rows), columns), numbers, refused, original, received, problems
        )

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        """The columns of the source, in order."""
        return tuple(f.name for f in self.source.fields)


def check(
    source: SourceNode,
    columns: Columns,
    numbers: npt.NDArray[np.int64],
    refused: Sequence[Refused],
    original: Callable[[int], bytes],
    received: int,
    problems: dict[int, tuple[str, str]],
) -> Decoded:
    """Step 3: refuse rows whose values are of the right type but not allowed."""
    for f in source.fields:
        _check_values(columns[f.name], f, problems)
    if not problems:
        return Decoded(columns, numbers, tuple(refused), original, received)
    found = [
        Refused(int(numbers[i]), reason, detail, original(int(numbers[i])))
        for i, (reason, detail) in problems.items()
    ]
    keep = np.setdiff1d(np.arange(columns.length), np.fromiter(problems, np.int64, len(problems)))
    everything = sorted([*refused, *found], key=lambda r: r.row)
    return Decoded(columns.take(keep), numbers[keep], tuple(everything), original, received)


class _Lines:
    """The non-blank lines of a buffer, split only when somebody asks for one."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @cached_property
    def all(self) -> list[bytes]:
        return [line.strip() for line in self._data.split(b"\n") if line.strip()]

    @property
    def longest(self) -> int:
        return max(map(len, self.all), default=0)

    def __getitem__(self, row: int) -> bytes:
        return self.all[row]


def _member(field: Field) -> Any:
    kind = _TYPES[field.dtype.name]
    return (field.name, kind | None, None) if field.optional else (field.name, kind)


def _reason_of(message: str) -> str:
    if "missing required field" in message:
        return "missing_field"
    if "got `null`" in message:
        return "null_field"
    if "out of range" in message or re.search(r"Expected `int` [<>]=", message):
        return "number_out_of_range"
    if "at `$." not in message and "Expected `object`" in message:
        return "not_an_object"
    return "wrong_type"


def _column(values: list[Any], field: Field, problems: dict[int, tuple[str, str]]) -> Column:
    kind = field.dtype.kind
    if kind == "text":
        return _text(values, field, problems)
    valid = None
    if field.optional and None in values:
        valid = np.fromiter((v is not None for v in values), np.bool_, len(values))
        values = [0 if v is None else v for v in values]
    if kind == "time":
        return Numeric(_times(values), valid)
    if kind == "float":
        floats = np.array(values, np.float64)
        return Numeric(floats.astype(np.float32).astype(np.float64) if field.dtype.name == "Float32" else floats, valid)
    return Numeric(np.array(values, np.bool_ if kind == "bool" else np.int64), valid)


def _times(values: list[Any]) -> npt.NDArray[np.int64]:
    try:
        return np.array(values, np.int64)
    except (TypeError, ValueError):
        return np.array([to_us(v) if isinstance(v, datetime) else v for v in values], np.int64)


def _text(values: list[Any], field: Field, problems: dict[int, tuple[str, str]]) -> Text:
    try:
        text = Text.from_strings(values)
    except UnicodeEncodeError:
        values = [_encodable(v, i, field, problems) for i, v in enumerate(values)]
        text = Text.from_strings(values)
    if len(text.data) and text.data.max() > 0x7F:
        text = Text.from_strings([v if v is None else unicodedata.normalize("NFC", v) for v in values])
    return text


def _encodable(value: str | None, row: int, field: Field, problems: dict[int, tuple[str, str]]) -> str | None:
    try:
        if value is not None:
            value.encode()
    except UnicodeEncodeError as error:
        problems[row] = ("invalid_unicode", f"{error.reason} - at `$.{field.name}`")
        return ""
    return value


def _check_values(column: Column, field: Field, problems: dict[int, tuple[str, str]]) -> None:
    where = f"at `$.{field.name}`"
    if isinstance(column, Text):
        lengths = np.diff(column.offsets)
        if len(lengths) and lengths.max() > MAX_TEXT_BYTES:
            for row in np.flatnonzero(lengths > MAX_TEXT_BYTES).tolist():
                problems.setdefault(row, ("too_long", f"{lengths[row]} bytes found - {where}"))
        return
    values = column.values
    if field.dtype.kind == "float" and not np.isfinite(values).all():
        for row in np.flatnonzero(~np.isfinite(values)).tolist():
            problems.setdefault(row, ("not_finite", f"{values[row]} found - {where}"))
    if field.dtype.kind == "time" and len(values) and (values.min() < _FIRST_US or values.max() > _LAST_US):
        bad = (values < _FIRST_US) | (values > _LAST_US)
        if column.valid is not None:
            bad &= column.valid
        for row in np.flatnonzero(bad).tolist():
            problems.setdefault(row, ("time_out_of_range", f"{values[row]} microseconds found - {where}"))


def _as_json(event: object) -> bytes:
    try:
        return msgspec.json.encode(event, enc_hook=repr)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError):
        return repr(event).encode(errors="backslashreplace")


