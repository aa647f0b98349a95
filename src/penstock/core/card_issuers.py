"""How numbers of payment cards begin, and how long they are: which numbers could be one.

A card number is 14 to 19 digits whose last is Luhn's check digit (ISO/IEC 7812-1), and which begin as some issuer's do. Lengths that are no
longer issued (Visa's 13 digits, which would be every tenth EAN code of a German product) are left out.
"""

from __future__ import annotations

SHORTEST, LONGEST = 14, 19
"""How many digits a card number has."""

PREFIX_DIGITS = 4

ISSUERS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("American Express", "34 37", (15,)),
    ("Diners Club", "300-305 309 36 38-39", (14,)),
    ("Discover", "6011 644-649 65", (16, 17, 18, 19)),
    ("Humo, UzCard", "8600 9860", (16,)),
    ("JCB", "3528-3589", (16, 17, 18, 19)),
    ("Maestro", "50 56-58 60 63 67", (16, 17, 18, 19)),
    ("Mastercard", "51-55 2221-2720", (16,)),
    ("Mir", "2200-2204", (16, 17, 18, 19)),
    ("RuPay", "81-82", (16,)),
    ("Troy", "9792", (16,)),
    ("UnionPay", "62", (16, 17, 18, 19)),
    ("Visa", "4", (16, 19)),
)
"""Name, first digits (ranges and single ones, of up to four digits) and numbers of digits."""


def prefixes(text: str) -> list[range]:
    """The first four digits that `text` stands for.

    >>> prefixes("36 300-305")
    [range(3600, 3700), range(3000, 3060)]
    """
    found = []
    for part in text.split():
        first, _, last = part.partition("-")
        scale = 10 ** (PREFIX_DIGITS - len(first))
        found.append(range(int(first) * scale, (int(last or first) + 1) * scale))
    return found
