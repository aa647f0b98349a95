"""The oracle of card numbers: what counts as one, and what an accepted event holds in its place. Plain and slow."""

from __future__ import annotations

import re
from collections.abc import Callable

from penstock.core.card_issuers import ISSUERS, prefixes

_LAYOUTS = [
    re.compile(layout, re.ASCII)
    for layout in (
        r"\d{14,19}",
        r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}\1\d{3}",
        r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}",
        r"\d{4}([ -])\d{6}\1\d{4,5}",
    )
]
_DIGIT = re.compile(r"[0-9]")
_WORD = re.compile(r"[0-9A-Za-z]")


def is_card_number(digits: str) -> bool:
    """Whether digits are a card's number: Luhn's check, and an issuer's first digits and length.

    >>> is_card_number("4111111111111111"), is_card_number("4111111111111112"), is_card_number("1" * 16)
    (True, False, False)
    """
    issued = any(
        len(digits) in lengths and int(digits[:4]) in prefix
        for _, starts, lengths in ISSUERS
        for prefix in prefixes(starts)
    )
    doubled = [sum(divmod(2 * int(d), 10)) if i % 2 else int(d) for i, d in enumerate(reversed(digits))]
    return issued and sum(doubled) % 10 == 0


def card_numbers(text: str) -> list[tuple[int, int]]:
    """Where the card numbers in a text start and end: of each place the first layout that fits.

    >>> card_numbers("4111-1111-1111-1111 and x4111111111111111")
    [(0, 19)]
    """
    found = []
    at = 0
    while at < len(text):
        end = _end_of_card(text, at)
        if end is None:
            at += 1
        else:
            found.append((at, end))
            at = end
    return found


def with_tokens(text: str, token: Callable[[str], str]) -> str:
    """`text` with the token of its digits for each card number in it."""
    parts, end = [], 0
    for start, stop in card_numbers(text):
        parts += [text[end:start], token("".join(_DIGIT.findall(text[start:stop])))]
        end = stop
    return "".join([*parts, text[end:]])


def _end_of_card(text: str, at: int) -> int | None:
    before, stripe = text[max(at - 1, 0) : at], text[max(at - 2, 0) : at]
    if _WORD.match(before) and stripe.upper() != "%B":
        return None
    for layout in _LAYOUTS:
        match = layout.match(text, at)
        if match and not _WORD.match(text, match.end()) and is_card_number("".join(_DIGIT.findall(match[0]))):
            return match.end()
    return None
