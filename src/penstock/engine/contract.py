"""The one edge where data are believed: bytes, dicts and Arrow tables become typed columns, or dead letters.

Every way in has the same verdict, because each ends in the same checks:

1. decode: JSON, dicts and what Avro or Protobuf hold by msgspec to a row with the source's fields, CSV lines (`cells`) and Arrow tables (`tables`)
   to values of the fields' types; wrong types, missing fields and malformed input stop here, row by row;
2. columns (`checks`): texts to NFC UTF-8, timestamps to int64 microseconds;
3. values (`checks`): floats finite, integers in range, times between 1900 and 2200, texts of bounded length;
4. card numbers (`card_numbers`): refused or replaced by tokens, unless the source keeps them.

A refused row keeps its original bytes, a reason code (`verdicts`) and what was found; card numbers are masked in both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import structs

from penstock.core.errors import ContractError, InputError
from penstock.core.limits import KEPT_BYTES, MAX_EVENT_BYTES
from penstock.core.types import Field
from penstock.engine import card_numbers, cells
from penstock.engine.card_numbers import CardTokens
from penstock.engine.checks import checked, column_of, single_of
from penstock.engine.lines import BOM, Lines
from penstock.engine.originals import as_json, plain_values, row_as_json
from penstock.engine.row_ids import with_row_ids
from penstock.engine.verdicts import REASONS, TYPES, Problems, reason_of, why_malformed
from penstock.kernel.columns import Column, Columns, Numeric, Text
from penstock.plan.nodes import SourceNode

if TYPE_CHECKING:
    import pyarrow as pa

_FIRST = np.zeros(1, np.int64)
_FIRST.setflags(write=False)

__all__ = ["MAX_EVENT_BYTES", "REASONS", "Contract", "Decoded", "Refused"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that did not pass: its number in the input, the reason's code, what was found, its bytes.

    Of an event larger than `MAX_EVENT_BYTES` only the beginning is kept.
    """

    row: int
    reason: str
    detail: str
    payload: bytes


class Decoded(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The outcome of decoding: accepted rows, their numbers in the input, and the refused ones.

    `original` gives the original bytes of an input row, for rows that are refused later.
    """

    columns: Columns
    rows: npt.NDArray[np.int64]
    refused: tuple[Refused, ...]
    original: Callable[[int], bytes]
    received: int

    def without(self, rows: Collection[int]) -> Decoded:
        """The same but for the accepted rows with these numbers, which somebody refuses for reasons of his own."""
        keep = np.flatnonzero(~np.isin(self.rows, list(rows)))
        return structs.replace(self, columns=self.columns.take(keep), rows=self.rows[keep])


Original = Callable[[int], bytes]


class Contract:
    """Decodes and checks the events of one source.

    `tokens` makes what takes the place of card numbers, where the source asks for that.
    """

    def __init__(self, source: SourceNode, *, tokens: CardTokens | None = None) -> None:
        if source.card_numbers == "tokenise" and tokens is None:
            raise InputError(
                f"source {source.name!r}: it replaces card numbers by tokens, and nothing that makes them was given. Give tokens=."
            )
        self.source = source
        self._tokens = tokens if source.card_numbers == "tokenise" else None
        self._keeps_cards = source.card_numbers == "keep"
        self._fields = tuple(f for f in source.fields if not (source.is_batch and f.name == source.id_field))
        self._row_type: Any = msgspec.defstruct(
            "Event", [_member(f) for f in self._fields], gc=False, kw_only=True
        )
        self._rows_type: Any = list[self._row_type]  # type: ignore[name-defined]
        self._decoder = msgspec.json.Decoder(self._row_type)
        self._read = [(f, attrgetter(f.name)) for f in self._fields]
        guarded = single_of if self._keeps_cards else card_numbers.single_of
        self._singles = [(f.name, guarded(f)) for f in self._fields]
        self._is_known = frozenset(f.name for f in self._fields).issuperset

    def decode_json(self, data: bytes) -> Decoded:
        """Decode NDJSON: one event a line; blank lines do not count, and a byte order mark is skipped."""
        data = data.rstrip()
        if b"\n" not in data:
            return self._single_line(data)
        lines = Lines(data)
        try:
            if lines.ends is not None and (data.isascii() or data.decode()):
                rows = self._decoder.decode_lines(data)
                if len(rows) == len(lines.ends):
                    return self._from_rows(rows, lines.__getitem__)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # some line is at fault: the next loop finds out which
        return self._each(lines.all, self._decode_line, lines.__getitem__)

    def decode_dicts(self, events: Sequence[Mapping[str, Any]]) -> Decoded:
        """Decode Python dicts; timestamps may be datetimes, ISO 8601 texts or integer microseconds."""

        def original(row: int) -> bytes:
            return as_json(events[row])

        try:
            rows = msgspec.convert(events, self._rows_type)
            if all(map(self._is_known, events)) or not any(map(self._surplus_problem, events)):
                return self._from_rows(rows, original)
        except (msgspec.ValidationError, RecursionError):
            pass  # some event is at fault: the next loop finds out which
        return self._each(events, self._convert, original)

    def decode_messages(self, values: Sequence[bytes]) -> Decoded:
        """Decode messages of JSON, an event each: what is a line of its own elsewhere, with whatever line breaks it holds."""
        joined = b"\n".join(values)
        try:
            if joined.count(b"\n") == len(values) - 1 and (joined.isascii() or joined.decode()):
                lines = Lines(joined)
                rows = [] if lines.ends is None else self._decoder.decode_lines(joined)
                if len(rows) == len(values):
                    return self._from_rows(rows, values.__getitem__)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # some message is at fault: the next loop finds out which
        messages = [value.strip().removeprefix(BOM).strip() for value in values]
        return self._each(messages, self._decode_line, messages.__getitem__)

    def decode_records(
        self, records: Sequence[Mapping[str, Any] | ContractError], values: Sequence[bytes]
    ) -> Decoded:
        """Decode dicts as others made them of `values`; an error among them refuses its message, whose bytes are kept."""

        def original(row: int) -> bytes:
            record = records[row]
            return values[row] if isinstance(record, ContractError) else as_json(record)

        try:
            return self._from_rows(msgspec.convert(records, self._rows_type), original)
        except (msgspec.ValidationError, RecursionError):
            return self._each(records, self._record, original)

    def decode_csv(self, data: bytes) -> Decoded:
        """Decode lines of CSV behind a header line; see `penstock.engine.cells` for what a cell means."""
        block = cells.read_block(data)
        problems: Problems = {}
        for row, line in enumerate(block.lines):
            if len(line) > MAX_EVENT_BYTES:
                problems[row] = _too_large(len(line))
        columns = cells.columns_of(block, self._fields, problems)
        return self._checked(columns, problems, block.lines.__getitem__)

    def decode_table(self, table: pa.Table) -> Decoded:
        """Decode an Arrow table; a column that the schema does not name is not looked at."""
        from penstock.engine import tables

        problems: Problems = {}
        columns = tables.columns_of(table, self._fields, problems)
        return self._checked(columns, problems, lambda row: row_as_json(table, row))

    def _single_line(self, data: bytes) -> Decoded:
        line = data.removeprefix(BOM).strip()
        if not line:
            return self._each([], self._decode_line, bytes)
        original = [line].__getitem__
        try:
            row = self._decode_line(line)
        except ContractError:
            return self._each([line], self._decode_line, original)
        return self._from_rows([row], original)

    def _each(
        self, items: Sequence[Any], decode: Callable[[Any], Any], original: Callable[[int], bytes]
    ) -> Decoded:
        rows, numbers, refused = [], [], []
        for number, item in enumerate(items):
            try:
                rows.append(decode(item))
                numbers.append(number)
            except ContractError as error:
                refused.append(self._refused(number, error.reason, error.detail, original))
        accepted = np.array(numbers, np.int64)
        checked_rows = self._from_rows(rows, lambda row: original(numbers[row]))
        again = [Refused(numbers[r.row], r.reason, r.detail, r.payload) for r in checked_rows.refused]
        everything = tuple(sorted([*refused, *again], key=lambda r: r.row))
        return Decoded(
            checked_rows.columns,
            accepted[checked_rows.rows],
            everything,
            self._kept(original),
            len(items),
        )

    def _decode_line(self, line: bytes) -> Any:
        if len(line) > MAX_EVENT_BYTES:
            raise ContractError(*_too_large(len(line)))
        try:
            if not line.isascii():
                line.decode()
            return self._decoder.decode(line)
        except msgspec.ValidationError as error:
            raise ContractError(reason_of(error), str(error)) from error
        except msgspec.DecodeError as error:
            raise why_malformed(line, error) from error
        except UnicodeDecodeError as error:
            raise ContractError("invalid_unicode", error.reason) from error
        except RecursionError as error:
            raise ContractError("malformed_json", "values are nested too deeply") from error

    def _convert(self, event: object) -> Any:
        if isinstance(event, Mapping) and (problem := self._surplus_problem(event)):
            raise ContractError(*problem)
        try:
            return self._converted(event)
        except msgspec.ValidationError as error:
            raise ContractError(reason_of(error), str(error)) from error
        except RecursionError as error:
            raise ContractError("malformed_json", "values are nested too deeply") from error

    def _record(self, record: Mapping[str, Any] | ContractError) -> Any:
        if isinstance(record, ContractError):
            raise record
        return self._convert(record)

    def _converted(self, event: object) -> Any:
        try:
            return msgspec.convert(event, self._row_type)
        except msgspec.ValidationError:
            plain = plain_values(event)
            if plain is event:
                raise
        return msgspec.convert(plain, self._row_type)

    def _surplus_problem(self, event: Mapping[str, Any]) -> tuple[str, str] | None:
        """What fields outside the schema would be refused for as JSON: size, depth, encoding."""
        if self._is_known(event):
            return None
        try:
            size = len(msgspec.json.encode(dict(event), enc_hook=lambda _: ""))
        except RecursionError:
            return "malformed_json", "values are nested too deeply"
        except UnicodeEncodeError as error:
            return "invalid_unicode", error.reason
        except (TypeError, ValueError):  # a key or number without a JSON form, in a field that nobody reads
            return None
        return _too_large(size) if size > MAX_EVENT_BYTES else None

    def _from_rows(self, rows: list[Any], original: Callable[[int], bytes]) -> Decoded:
        if len(rows) == 1:
            columns = self._single_row(rows[0])
            if columns is not None:
                return Decoded(self._with_ids(columns), _FIRST, (), self._kept(original), 1)
        problems: Problems = {}
        found: dict[str, Column] = {
            f.name: column_of(list(map(read, rows)), f, problems) for f, read in self._read
        }
        return self._checked(Columns(len(rows), found), problems, original)

    def _single_row(self, row: Any) -> Columns | None:
        """The columns of one plainly good row; None where `column_of` and `checked` must look at it closely.

        NumPy calls cost more than the work on one row: this is what keeps a single event cheap.
        """
        found: dict[str, Column] = {}
        for (name, single), value in zip(self._singles, structs.astuple(row), strict=True):
            column = single(value)
            if column is None:
                return None
            found[name] = column
        return Columns(1, found)

    def _checked(self, columns: Columns, problems: Problems, original: Callable[[int], bytes]) -> Decoded:
        """Steps 3 and 4, and the end of every way in: `columns` without the rows that have problems."""
        columns = checked(columns, self._fields, problems)
        if not self._keeps_cards:
            columns = card_numbers.without_cards(columns, self._fields, problems, tokens=self._tokens)
        kept_original = self._kept(original)
        if not problems:
            return Decoded(
                self._with_ids(columns), np.arange(columns.length), (), kept_original, columns.length
            )
        refused = tuple(self._refused(row, *problems[row], original) for row in sorted(problems))
        bad = np.fromiter(problems, np.int64, len(problems))
        keep = np.setdiff1d(np.arange(columns.length), bad)
        kept = self._with_ids(_all_valid(columns.take(keep)))
        return Decoded(kept, keep, refused, kept_original, columns.length)

    def _kept(self, original: Original) -> Original:
        """What may be kept of a row's bytes."""
        if self._keeps_cards:
            return original
        return lambda row: card_numbers.masked(original(row))

    def _refused(self, row: int, reason: str, detail: str, original: Original) -> Refused:
        found = original(row)
        payload = found
        if not self._keeps_cards:
            payload = card_numbers.masked(found)
            detail = card_numbers.masked(detail.encode(errors="backslashreplace")).decode()
        if len(found) > MAX_EVENT_BYTES:
            reason, detail = _too_large(len(found))
        if reason == card_numbers.REASON and payload == found:
            payload = b""  # it is written in a way that only decoding tells
        if reason == "event_too_large":
            payload = payload[:KEPT_BYTES]
        return Refused(row, reason, detail, payload)

    def _with_ids(self, columns: Columns) -> Columns:
        """Rows of a batch source get the id by which they are known."""
        if not self.source.is_batch:
            return columns
        return with_row_ids(columns, self._fields, str(self.source.id_field))


def _member(field: Field) -> Any:
    kind = TYPES[field.dtype.name]
    return (field.name, kind | None, None) if field.optional else (field.name, kind)


def _too_large(size: int) -> tuple[str, str]:
    return "event_too_large", f"{size} bytes found; at most {MAX_EVENT_BYTES} are allowed"


def _all_valid(columns: Columns) -> Columns:
    """`columns` with no mask where the refused rows held the only nulls."""
    found: dict[str, Column] = {}
    for name, column in columns.columns.items():
        if column.valid is None or not column.valid.all():
            found[name] = column
        elif isinstance(column, Text):
            found[name] = Text(column.offsets, column.data)
        else:
            found[name] = Numeric(column.values)
    return Columns(columns.length, found)
