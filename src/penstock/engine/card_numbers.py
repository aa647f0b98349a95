"""Card numbers at the edge: refused, or replaced by tokens, before anything is kept; and masked in what is kept of refused input.

What counts as a card number is said in `penstock.kernel.card_numbers`. Every way in ends here, behind the checks of `penstock.engine.checks`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.card_issuers import SHORTEST
from penstock.core.types import Field
from penstock.engine import checks
from penstock.engine.checks import at
from penstock.engine.verdicts import Problems
from penstock.kernel.columns import Column, Columns, IntArray, Numeric, Text

if TYPE_CHECKING:
    import pyarrow as pa

REASON = "card_number"
TOKEN_START = "card_"  # noqa: S105 - how tokens begin
FIRST_NUMBER = 10**13
"""Numbers nearer to zero than this hold no card number."""

_MAY_HOLD = re.compile(r"[0-9][0-9 -]{12,}[0-9]")
_MAY_HOLD_BYTES = re.compile(_MAY_HOLD.pattern.encode())
_ESCAPED = re.compile(rb"\\u00(3[0-9]|2[0dD])")
_MAX_EXACT = 2.0**53
_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")


class CardTokens:
    """Makes the tokens of a project: the same for the same card, and telling nothing without the key.

    Parameters
    ----------
    read_key
        Gives the key, at least 32 bytes. Called once, when the first card number is met.

    Examples
    --------
    >>> tokens = CardTokens(lambda: bytes(32))
    >>> tokens.of("4111 1111 1111 1111") == tokens.of("4111111111111111")
    True
    >>> tokens.of("4111111111111111")
    'card_dkmmoadgocepkjakalagalfgffgcbldd'
    """

    def __init__(self, read_key: Callable[[], bytes]) -> None:
        self._read_key = read_key
        self._key = b""

    def of(self, number: str) -> str:
        """The token of a card number, however it is grouped."""
        if not self._key:
            self._key = self._read_key()
        digits = number.replace(" ", "").replace("-", "").encode()
        digest = hmac.digest(self._key, digits, "sha256")[:16]
        return TOKEN_START + digest.hex().encode().translate(_LETTERS).decode()  # letters: never a number

    def in_place_of(self, text: str) -> str:
        """`text` with the tokens of the card numbers in it."""
        if not may_hold_card(text):
            return text
        parts, end = [], 0
        data = text.encode()
        for start, stop in _found_in(data, loosely=False):
            parts += [data[end:start], self.of(data[start:stop].decode()).encode()]
            end = stop
        return b"".join([*parts, data[end:]]).decode() if parts else text


def may_hold_card(text: str) -> bool:
    """Whether a text is worth a closer look: cheap, and never False where there is a card number."""
    return _MAY_HOLD.search(text) is not None


def holds_card(text: str) -> bool:
    """Whether there is a card number in a text.

    >>> holds_card("paid with 4111-1111-1111-1111"), holds_card("1234567812345678")
    (True, False)
    """
    return may_hold_card(text) and next(_found_in(text.encode(), loosely=False), None) is not None


def masked(data: bytes) -> bytes:
    """`data` with the digits of each card number in it as asterisks, but for the last four.

    >>> masked(b'{"card": "4111 1111 1111 1111", "n": 4111111111111111}')
    b'{"card": "**** **** **** 1111", "n": ************1111}'
    """
    if b"\\u00" in data:
        data = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), data)
    if _MAY_HOLD_BYTES.search(data) is None:
        return data
    out = bytearray(data)
    for start, stop in _found_in(data, loosely=True):
        out[start : stop - 4] = re.sub(rb"[0-9]", b"*", data[start : stop - 4])
    return bytes(out)


def masked_text(text: str) -> str:
    """As `masked`, of a text that somebody wrote.

    >>> masked_text("the card 4111 1111 1111 1111 was stolen")
    'the card **** **** **** 1111 was stolen'
    """
    return masked(text.encode()).decode() if may_hold_card(text) else text


def _found_in(data: bytes, *, loosely: bool) -> Iterator[tuple[int, int]]:
    """Where the card numbers of some bytes start and end, one after another."""
    from penstock.kernel.card_numbers import find_card  # late: it loads the compiler

    found = find_card(data, loosely=loosely)
    while found is not None:
        yield found
        found = find_card(data, found[1], loosely=loosely)


def single_of(field: Field) -> Callable[[Any], Column | None]:
    """As `penstock.engine.checks.single_of`, with None for a value that holds a card number."""
    single = checks.single_of(field)
    if field.dtype.kind == "text":
        return lambda value: (
            single(value) if value is None or len(value) < SHORTEST or not holds_card(value) else None
        )
    if field.dtype.name in {"Int64", "Float64"}:
        return lambda value: (
            single(value)
            if value is None or -FIRST_NUMBER < value < FIRST_NUMBER or not _is_card(value)
            else None
        )
    return single


def _is_card(value: Any) -> bool:
    if type(value) is float and not (abs(value) < _MAX_EXACT and value.is_integer()):
        return False
    return holds_card(str(int(value)))


def with_tokens(table: pa.Table, tokens: CardTokens) -> pa.Table:
    """A frame with tokens in place of the card numbers in its texts."""
    import pyarrow as pa

    for i, name in enumerate(table.column_names):
        column = table.column(i)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            continue
        texts = column.to_pylist()
        found = [text if text is None else tokens.in_place_of(text) for text in texts]
        if found != texts:
            table = table.set_column(i, name, pa.array(found, column.type))
    return table


def without_cards(
    columns: Columns, fields: Sequence[Field], problems: Problems, *, tokens: CardTokens | None
) -> Columns:
    """Note the rows with card numbers in their values; with `tokens`, texts get those in their place instead.

    A number cannot hold a token, so that its row is refused either way.
    """
    found: dict[str, Column] = {}
    for field in fields:
        column = columns[field.name]
        rows = _rows_with_cards(column, field)
        if rows is None or not len(rows):
            continue
        if tokens is not None and isinstance(column, Text):
            found[field.name] = _with_tokens(column, rows, tokens)
            continue
        for row in rows.tolist():
            problems.setdefault(row, (REASON, f"a card number was found - {at(field)}"))
    return columns.with_columns(found) if found else columns


def _rows_with_cards(column: Column, field: Field) -> IntArray | None:
    if isinstance(column, Text):
        return _texts_with_cards(column)
    if field.dtype.kind == "int" and field.dtype.name != "Int32":
        return _integers_with_cards(column)
    return _floats_with_cards(column) if field.dtype.kind == "float" else None


def _texts_with_cards(column: Text) -> IntArray | None:
    if len(column.data) < SHORTEST:
        return None
    from penstock.kernel.card_numbers import texts_with_cards

    return texts_with_cards(column)


def _integers_with_cards(column: Numeric) -> IntArray | None:
    values: IntArray = column.values  # type: ignore[assignment]
    if not len(values) or (values.max() < FIRST_NUMBER and values.min() > -FIRST_NUMBER):
        return None
    from penstock.kernel.card_numbers import integers_with_cards

    return _valid_of(column, integers_with_cards(np.ascontiguousarray(values)))


def _floats_with_cards(column: Numeric) -> IntArray | None:
    values = column.values
    if not len(values) or (values.max() < FIRST_NUMBER and values.min() > -FIRST_NUMBER):
        return None
    size = np.abs(values)
    whole = np.flatnonzero((size >= FIRST_NUMBER) & (size < _MAX_EXACT) & (np.floor(size) == size))
    from penstock.kernel.card_numbers import integers_with_cards

    return _valid_of(column, whole[integers_with_cards(size[whole].astype(np.int64))])


def _valid_of(column: Numeric, rows: IntArray) -> IntArray:
    return rows if column.valid is None else rows[column.valid[rows]]


def _with_tokens(column: Text, rows: IntArray, tokens: CardTokens) -> Text:
    strings = column.to_strings()
    for row in rows.tolist():
        strings[row] = tokens.in_place_of(str(strings[row]))
    return Text.from_strings(strings)
