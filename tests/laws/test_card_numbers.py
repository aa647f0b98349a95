"""Card numbers: the edge finds what the oracle finds, whatever stands around them."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.core.card_issuers import ISSUERS, prefixes
from penstock.core.types import Field, Float64, Int64, String, Timestamp
from penstock.engine.card_numbers import CardTokens, holds_card, masked
from penstock.engine.contract import Contract
from penstock.kernel.card_numbers import find_card, integers_with_cards, texts_with_cards
from penstock.kernel.columns import Text
from penstock.plan.nodes import SourceNode
from penstock.testing.reference_cards import card_numbers, is_card_number, with_tokens

NOW_US = 1_760_000_000_000_000
LAYOUTS = (
    (4, 4, 4, 4),
    (4, 4, 4, 4, 3),
    (4, 6, 5),
    (4, 6, 4),
    (16,),
    (14,),
    (15,),
    (19,),
    (6, 13),
    (4, 12),
    (5, 5, 6),
)


def check_digit(digits):
    return next(d for d in "0123456789" if luhn(digits + d))


def luhn(digits):
    return sum(sum(divmod(int(d) * (1 + i % 2), 10)) for i, d in enumerate(reversed(digits))) % 10 == 0


@st.composite
def numbers(draw):
    """Digits with Luhn's check digit, mostly of some issuer; now and then with the check digit wrong."""
    _, starts, lengths = draw(st.sampled_from(ISSUERS))
    prefix = draw(st.sampled_from([*prefixes(starts), range(10_000)]))
    length = draw(st.sampled_from([*lengths, 13, 20]))
    body = f"{draw(st.integers(prefix.start, prefix.stop - 1)):04}"
    body += "".join(draw(st.lists(st.sampled_from("0123456789"), min_size=length - 5, max_size=length - 5)))
    return body + (check_digit(body) if draw(st.integers(0, 9)) else draw(st.sampled_from("0123456789")))


@st.composite
def written(draw):
    """A number as somebody may write it."""
    number, groups = draw(numbers()), draw(st.sampled_from(LAYOUTS))
    separators = draw(st.sampled_from((" ", "-", "  ", ".", "")))
    parts, at = [], 0
    for size in groups:
        parts.append(number[at : at + size])
        at += size
    return separators.join(part for part in [*parts, number[at:]] if part)


PIECES = st.one_of(
    written(),
    st.sampled_from(["%B", "n", "é", " ", "-", "7", "2025", ":", "a", "\n", ""]),
    st.text(max_size=3),
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("2025 4111 1111 1111 1111 2026")
@example("%B4111111111111111^DOE/J^2512")
@example("4111-1111-1111-1111-003")
@example("6011 0010 0110 0009%B3400 0000 0000 0096011 0010 0110 0009")
def test_the_edge_finds_what_the_oracle_finds(text):
    encoded = text.encode()
    found, places, at = [], [], 0
    while (one := find_card(encoded, at)) is not None:
        places.append(slice(*one))
        found.append((len(encoded[: one[0]].decode()), len(encoded[: one[1]].decode())))
        at = one[1]
    assert found == card_numbers(text)
    assert holds_card(text) == bool(found)
    assert len(texts_with_cards(Text.from_strings(["x", text]))) == bool(found)
    hidden = masked(encoded)
    assert len(hidden) == len(encoded)
    for place in places:  # the same digits as the end of a longer number are no card
        assert hidden[place] != encoded[place]
        assert sum(b in b"0123456789" for b in hidden[place]) <= 4


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(numbers().map(int), st.integers(-(2**63), 2**63 - 1)).filter(lambda v: abs(v) < 2**63))
)
@example([4111111111111111, -4111111111111111, -(2**63) + 1, 2**63 - 1])
def test_integers_are_judged_by_their_digits(values):
    found = integers_with_cards(np.array(values, np.int64)).tolist()
    assert found == [i for i, v in enumerate(values) if is_card_number(str(abs(v)).zfill(4))]


@settings(max_examples=100, deadline=None)
@given(TEXTS.filter(lambda text: "\x00" not in text))
def test_one_event_is_judged_as_many_are_and_tokens_are_the_oracles(text):
    tokens = CardTokens(lambda: bytes(32))
    fields = (Field("note", String), Field("at", Timestamp))
    contract = Contract(SourceNode("s", fields, "at", None, 0, 0, card_numbers="tokenise"), tokens=tokens)
    event = {"note": text, "at": NOW_US}
    one, many = contract.decode_dicts([event]), contract.decode_dicts([event, {"note": "", "at": NOW_US}])
    assert one.refused == many.refused == ()
    wanted = contract.decode_dicts([{"note": with_tokens(text, tokens.of), "at": NOW_US}])
    assert one.columns["note"].to_strings() == wanted.columns["note"].to_strings()
    assert many.columns["note"].to_strings()[0] == wanted.columns["note"].to_strings()[0]


FIELDS = (
    Field("text", String, optional=True),
    Field("n", Int64, optional=True),
    Field("x", Float64, optional=True),
    Field("at", Timestamp),
)


@pytest.mark.parametrize(
    "values",
    [
        {"text": "4111 1111 1111 1111"},
        {"n": 4111111111111111},
        {"x": 4111111111111111.0},
        {"n": -4111111111111111},
    ],
)
@pytest.mark.parametrize("others", [0, 3])
def test_a_number_of_any_type_is_refused_alone_and_among_others(values, others):
    contract = Contract(SourceNode("s", FIELDS, "at", None, 0, 0))
    decoded = contract.decode_dicts([{**values, "at": NOW_US}, *[{"at": NOW_US}] * others])
    assert [(r.row, r.reason) for r in decoded.refused] == [(0, "card_number")]
    assert b"4111111" not in decoded.refused[0].payload.replace(b" ", b"")
    keeping = Contract(SourceNode("s", FIELDS, "at", None, 0, 0, card_numbers="keep"))
    assert not keeping.decode_dicts([{**values, "at": NOW_US}, *[{"at": NOW_US}] * others]).refused


@pytest.mark.parametrize(
    "line",
    [
        b'{"text": "\\u0034111111111111111", "at": 1}',
        b'{"text": "\\u0034\\u0031\\u003111111111\\u0031\\u0031111", "at": 1}',
        b'{"text": "x", "n": 4.111111111111111e15, "at": 1}',
        b'{"text": "x", "x": 4.111111111111111e15, "at": 1}',
        b'{"text": "a\\n4111111111111111", "at": 1}',
        b'{"text": 7, "other": "4111111111111111", "at": 1}',
        b'{"text": 7, "4111111111111111": 1, "at": 1}',
        b'{"text": "4111111111111111',
        b"4111111111111111",
    ],
)
def test_what_is_kept_of_a_refused_line_tells_no_number(line):
    decoded = Contract(SourceNode("s", FIELDS, "at", None, 0, 0)).decode_json(line)
    (refused,) = decoded.refused
    for kept in (refused.payload, refused.detail.encode(), decoded.original(0)):
        assert b"4111111111111111" not in kept
    assert b"4.11111" not in refused.payload or refused.reason != "card_number"


def test_ids_that_are_no_cards_pass():
    good = [
        "1760000000000000",  # microseconds
        "550e8400-e29b-41d4-a716-446655440000",
        "d41d8cd98f00b204e9800998ecf8427e",
        "490154203237518",  # an IMEI, which passes Luhn's check
        "8944500102198304826",  # a SIM card
        "4006381333931",  # EAN-13
        "2025-11-22 16:14:19.123456",
        "+49 151 2345 67890",
    ]
    assert not [text for text in good if holds_card(text)]
