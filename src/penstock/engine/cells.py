"""Lines of CSV to columns: one event a line, so that a stray quote damages one line and not the rest of the file.

An empty cell is null; a quoted empty one (``""``) is the empty text. Texts with line breaks belong in NDJSON or Parquet.
Cells are read as msgspec's lax mode reads texts: ``5`` and ``5.0`` for an Int, ``true`` and ``1`` for a Bool.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from penstock.core.errors import ContractError
from penstock.core.types import Field
from penstock.engine.checks import at, column_of
from penstock.engine.verdicts import TYPES, Problems, reason_of
from penstock.kernel.columns import Column, Columns

_CELL = re.compile(r'(?:"((?:[^"]|"")*+)"|([^",][^,]*+|))(?:,|\Z)')

Cells = Sequence[str | None]


@dataclass(frozen=True, slots=True, eq=False)
class CsvBlock:
    """The lines of a block behind its header, and their cells column by column."""

    lines: list[bytes]
    columns: dict[str, Cells]
    problems: Problems


def read_block(data: bytes) -> CsvBlock:
    """Split a block of CSV that starts with a header; blank lines do not count."""
    lines = [
        line
        for line in data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
        if line.strip()
    ]
    if not lines:
        return CsvBlock([], {}, {})
    body = lines[1:]
    try:
        names = [name or "" for name in split_line(lines[0].decode(errors="replace"))]
    except ContractError as error:
        problem = (error.reason, f"{error.detail} of the header")
        return CsvBlock(body, {}, dict.fromkeys(range(len(body)), problem))
    problems: Problems = {}
    columns = _plain_columns(body, len(names))
    if columns is None:
        rows = [_row(line, row, len(names), problems) for row, line in enumerate(body)]
        columns = list(zip(*rows, strict=True))
    return CsvBlock(body, dict(zip(names, columns, strict=True)), problems)


def _plain_columns(lines: list[bytes], width: int) -> list[Cells] | None:
    """The cells of lines without quotes that all have `width` cells; None where a line needs a closer look."""
    if not lines:
        return [()] * width
    whole = b"\n".join(lines)
    if b'"' in whole or any(line.count(b",") != width - 1 for line in lines):
        return None
    try:
        cells = whole.decode().replace("\n", ",").split(",")
    except UnicodeDecodeError:
        return None
    columns = [cells[i::width] for i in range(width)]
    return [[cell or None for cell in column] if "" in column else column for column in columns]


def _row(line: bytes, row: int, width: int, problems: Problems) -> list[str | None]:
    try:
        cells = split_line(line.decode())
        if len(cells) == width:
            return cells
        problems[row] = ("malformed_csv", f"{len(cells)} values found; the header has {width} columns")
    except UnicodeDecodeError as error:
        problems[row] = ("invalid_unicode", error.reason)
    except ContractError as error:
        problems[row] = (error.reason, error.detail)
    return [None] * width


def split_line(line: str) -> list[str | None]:
    """The cells of one line; None for an empty one.

    >>> split_line('7,"Bean, ""Mr"" J",,""')
    ['7', 'Bean, "Mr" J', None, '']
    """
    cells: list[str | None] = []
    start = 0
    while True:
        match = _CELL.match(line, start)
        if match is None:
            raise ContractError("malformed_csv", f"the quoting is broken at character {start}")
        quoted, plain = match.groups()
        cells.append(plain or None if quoted is None else quoted.replace('""', '"'))
        start = match.end()
        if start == len(line) and not match.group().endswith(","):
            return cells
        if start == len(line):
            return [*cells, None]


def columns_of(block: CsvBlock, fields: Sequence[Field], problems: Problems) -> Columns:
    """The columns of `fields`; `problems` gets those of the lines and of the values."""
    problems.update(block.problems)
    length = len(block.lines)
    found: dict[str, Column] = {}
    for field in fields:
        cells = block.columns.get(field.name)
        if cells is None:
            cells = [None] * length
            _refuse_nulls(cells, "missing_field", field, problems)
        if field.dtype.kind != "text" and "" in cells:
            cells = [cell or None for cell in cells]
        _refuse_nulls(cells, "null_field", field, problems)
        found[field.name] = column_of(_values(cells, field, problems), field, problems)
    return Columns(length, found)


def _refuse_nulls(cells: Cells, reason: str, field: Field, problems: Problems) -> None:
    if field.optional or None not in cells:
        return
    for row, cell in enumerate(cells):
        if cell is None:
            problems.setdefault(row, (reason, f"no value found - {at(field)}"))


def _values(cells: Cells, field: Field, problems: Problems) -> Sequence[Any]:
    if field.dtype.kind == "text":
        return cells
    if field.dtype.kind == "time":
        return read_times(cells, field, problems, digits=True)
    wanted = TYPES[field.dtype.name]
    return _read(cells, wanted, lambda cell: msgspec.convert(cell, wanted, strict=False), field, problems)


def read_times(cells: Cells, field: Field, problems: Problems, *, digits: bool) -> Sequence[Any]:
    """Texts as integer microseconds (only where `digits` may count as such) or datetimes, from ISO 8601.

    A text that is neither is noted and read as 0.
    """

    def read(cell: str) -> int | datetime:
        if digits:
            try:
                return msgspec.convert(cell, TYPES["Int64"], strict=False)  # type: ignore[no-any-return]
            except msgspec.ValidationError:
                if not cell.strip("+-0123456789"):
                    raise
        return msgspec.convert(cell, datetime)

    first = next((cell for cell in cells if cell is not None), "")
    whole = TYPES["Int64"] if digits and first.isdigit() else datetime
    return _read(cells, whole, read, field, problems)


def _read(
    cells: Cells, wanted: Any, read: Callable[[str], Any], field: Field, problems: Problems
) -> Sequence[Any]:
    """The values of `cells`: all at once as `wanted` where that works, else one by one."""
    present = cells if None not in cells else [cell for cell in cells if cell is not None]
    try:
        values = msgspec.convert(present, list[wanted], strict=wanted is datetime)
    except msgspec.ValidationError:
        return [_read_one(cell, row, read, field, problems) for row, cell in enumerate(cells)]
    if len(present) == len(cells):
        return values
    following = iter(values)
    return [None if cell is None else next(following) for cell in cells]


def _read_one(
    cell: str | None, row: int, read: Callable[[str], Any], field: Field, problems: Problems
) -> Any:
    try:
        return None if cell is None else read(cell)
    except msgspec.ValidationError as error:
        problems.setdefault(row, (reason_of(error), f"{error} - {at(field)}"))
        return None
