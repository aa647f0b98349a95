"""Events as somebody wrote them, an object or a list in any layout, as the NDJSON that a contract decodes."""

from __future__ import annotations

import msgspec

from penstock.engine.lines import BOM

_LIST = list[msgspec.Raw]


def one_line(text: bytes) -> bytes:
    r"""An event as one line, whatever its layout: a line break inside a JSON text would be an error anyway.

    >>> one_line(b'{\n  "amount": 1\n}')
    b'{   "amount": 1 }'
    """
    text = text.strip().removeprefix(BOM).strip()
    return b" ".join(text.splitlines()) if b"\n" in text or b"\r" in text else text


def elements(text: bytes) -> list[bytes] | None:
    """The elements of a JSON list as lines, untouched, so that each gets the verdict that it deserves; None where it is no list.

    >>> elements(b'[{"amount": 1}, 2]')
    [b'{"amount": 1}', b'2']
    """
    try:
        found = msgspec.json.decode(text, type=_LIST)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return [one_line(bytes(element)) for element in found]


def lines(text: bytes) -> list[bytes]:
    r"""The events of NDJSON; blank lines do not count.

    >>> lines(b'{"amount": 1}\n\n{"amount": 2}\n')
    [b'{"amount": 1}', b'{"amount": 2}']
    """
    return [line for part in text.split(b"\n") if (line := one_line(part))]
