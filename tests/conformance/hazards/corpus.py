"""Named inputs that went wrong somewhere once, or could, each with the verdict that every way in must give.

A case is either *values* that any way in can carry (a dict, which becomes JSON, CSV and an Arrow table where these can express
it), or *bytes* that only lines of JSON can be. `reason` is None for an event that is odd but good.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

NOW_US = 1_760_000_000_000_000
GOOD: dict[str, Any] = {"id": "good", "card": "c-1", "at": NOW_US, "amount": 12.5}
JSON, DICT, CSV, TABLE = "json", "dict", "csv", "table"
EVERYWHERE = frozenset({JSON, DICT, CSV, TABLE})


@dataclass(frozen=True)
class Case:
    name: str
    reason: str | None
    event: Mapping[str, Any] | None = None
    line: bytes | None = None
    ways: frozenset[str] = EVERYWHERE
    live_reason: str | None = None

    @property
    def json_line(self) -> bytes:
        if self.line is not None:
            return self.line
        return json.dumps(self.event, ensure_ascii=False, default=_iso).encode()

    @property
    def verdict_when_live(self) -> str | None:
        return self.reason or self.live_reason


def _iso(value: datetime) -> str:
    return value.isoformat()


def values(
    name: str, reason: str | None, *, not_in: str = "", live: str | None = None, **changes: Any
) -> Case:
    """The good event with `changes`; ways named in `not_in` cannot express it, or mean something else by it."""
    event = {**GOOD, "id": name, **changes}
    return Case(name, reason, event=event, ways=EVERYWHERE - set(not_in.split()), live_reason=live)


def without(name: str, reason: str, *fields: str) -> Case:
    event = {key: value for key, value in {**GOOD, "id": name}.items() if key not in fields}
    return Case(name, reason, event=event)


def text(name: str, reason: str | None, line: bytes | str) -> Case:
    """A line of JSON; ``@`` stands for a good event without its closing brace, whose id is the case's name."""
    good = json.dumps({**GOOD, "id": name})[:-1]
    raw = line.encode() if isinstance(line, str) else line
    return Case(name, reason, line=raw.replace(b"@", good.encode()), ways=frozenset({JSON}))


def python(name: str, reason: str | None, event: Any) -> Case:
    """An event that only Python can express."""
    return Case(name, reason, event=event, ways=frozenset({DICT}))


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> dict[str, Any]:
    event: dict[str, Any] = {**GOOD, "id": "contains_itself"}
    event["note"] = event
    return event


EASTMOST, WESTMOST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
BEYOND_CSV = "csv"  # CSV has texts only: a text in quotes and a number are the same cell

CASES: tuple[Case, ...] = (
    # Numbers
    values("amount_nan", "not_finite", amount=math.nan),
    values("amount_infinite", "not_finite", amount=math.inf),
    values("amount_minus_infinite", "not_finite", amount=-math.inf),
    values("ratio_nan_optional", "not_finite", ratio=math.nan),
    values("ratio_beyond_float32", "number_out_of_range", ratio=1e39),
    values("amount_1e308", None, amount=1e308),
    values("amount_1e15", None, amount=1e15),
    values("amount_smallest", None, amount=5e-324),
    values("amount_minus_zero", None, amount=-0.0),
    values("amount_integer", None, amount=7),
    values("amount_integer_beyond_double", None, amount=2**53 + 1),
    values("amount_true", "wrong_type", amount=True),
    values("amount_text", "wrong_type", amount="twelve"),
    values("amount_number_as_text", "wrong_type", amount="12.5", not_in=BEYOND_CSV),
    values("amount_empty_text", "wrong_type", amount="", not_in=BEYOND_CSV),
    values("amount_list", "wrong_type", amount=[1.0], not_in=BEYOND_CSV),
    values("amount_object", "wrong_type", amount={"value": 1.0}, not_in=BEYOND_CSV),
    values("amount_null", "null_field", amount=None),
    values("amount_huge_integer", "number_out_of_range", amount=10**400, not_in="table"),
    values("count_fraction", "wrong_type", count=1.5),
    values("count_whole_float", "wrong_type", count=5.0, not_in=BEYOND_CSV),
    values("count_true", "wrong_type", count=True),
    values("count_largest", None, count=2**63 - 1),
    values("count_smallest", None, count=-(2**63)),
    values("count_beyond_int64", "number_out_of_range", count=2**63, not_in="table"),
    values("count_far_beyond_int64", "number_out_of_range", count=10**30, not_in="table"),
    values("count_null_optional", None, count=None),
    values("small_beyond_int32", "number_out_of_range", small=2**31),
    values("small_below_int32", "number_out_of_range", small=-(2**31) - 1),
    values("abroad_one", "wrong_type", abroad=1, not_in=BEYOND_CSV),
    values("abroad_yes", "wrong_type", abroad="yes"),
    values("abroad_null_optional", None, abroad=None),
    text("number_1e400", "number_out_of_range", '@,"amount":1e400}'),
    text("number_5000_digits", "number_out_of_range", '@,"amount":1' + "0" * 5000 + "}"),
    text("number_leading_zero", "malformed_json", '@,"amount":012}'),
    text("number_plus_sign", "malformed_json", '@,"amount":+1}'),
    text("number_bare_point", "malformed_json", '@,"amount":.5}'),
    text("number_hexadecimal", "malformed_json", '@,"amount":0x1F}'),
    text("number_underflow", None, '@,"amount":1e-400}'),
    python("amount_5000_digits", "number_out_of_range", {**GOOD, "amount": 10**5000}),
    # Texts and keys
    values("id_number", "wrong_type", id=5, not_in=BEYOND_CSV),
    values("id_null", "null_field", id=None),
    values("card_empty", None, card=""),
    values("card_null", "null_field", card=None),
    values("card_blank", None, card="  "),
    values("card_nfc", None, card="Zo\u00eb"),
    values("card_nfd", None, card="Zoe\u0308"),
    values("card_emoji", None, card="\U0001f4b3"),
    values("card_right_to_left", None, card="\u202etxt.exe"),
    values("card_line_separator", None, card="a\u2028b"),
    values("card_nul", None, card="a\0b"),
    values("card_newline", None, card="a\nb", not_in=BEYOND_CSV),
    values("card_markup", None, card="<script>alert(1)</script>"),
    values("card_sql", None, card="'; DROP TABLE log; --"),
    values("card_quotes_and_commas", None, card='a,"b",c'),
    values("card_formula", None, card="=1+1"),
    values("card_longest", None, card="x" * 8192),
    values("card_too_long", "too_long", card="x" * 8193),
    values("card_too_long_in_bytes", "too_long", card="\u00eb" * 4097),
    values("note_null_optional", None, note=None),
    values("note_2_mebibytes", "event_too_large", note="x" * (2 << 20)),
    values("card_lone_surrogate", "invalid_unicode", card="\ud800", not_in="json csv table"),
    text("surrogate_escaped_alone", "invalid_unicode", '@,"card":"\\ud800"}'),
    text("surrogate_escaped_in_unknown_field", "invalid_unicode", '@,"other":"\\ud800"}'),
    text("surrogate_escaped_pair", None, '@,"card":"\\ud83d\\udcb3"}'),
    text("card_invalid_utf8", "invalid_unicode", b'@,"card":"\xff"}'),
    text("card_overlong_utf8", "invalid_unicode", b'@,"card":"\xc0\xaf"}'),
    text("unknown_field_invalid_utf8", "invalid_unicode", b'@,"other":"\xff"}'),
    text("latin_1", "invalid_unicode", b'@,"card":"Zo\xeb"}'),
    text("raw_control_character", "malformed_json", b'@,"card":"a\x01"}'),
    text("raw_nul", "malformed_json", b'@,"card":"a\0"}'),
    # Numbers of payment cards
    values("card_is_a_card_number", "card_number", card="4111111111111111"),
    values("card_is_a_grouped_card_number", "card_number", card="4111-1111-1111-1111"),
    values("note_with_a_card_number", "card_number", note="paid with 3782 822463 10005."),
    values("note_with_a_magnetic_stripe", "card_number", note="%B4111111111111111^DOE/JOHN^2512"),
    values("id_is_a_card_number", "card_number", id="5555555555554444"),
    values("count_is_a_card_number", "card_number", count=6011111111111117),
    values("amount_is_a_card_number", "card_number", amount=4111111111111111.0),
    values("card_number_in_an_unknown_field", None, other="4111111111111111"),
    values("card_number_with_a_wrong_digit", None, card="4111111111111112"),
    values("card_number_within_a_word", None, card="a4111111111111111f"),
    text("card_number_escaped", "card_number", '@,"card":"\\u0034111111111111111"}'),
    text("card_number_in_a_name", None, '@,"4111111111111111":1}'),
    # Times
    without("at_missing", "missing_field", "at"),
    values("at_null", "null_field", at=None),
    values("at_text", "wrong_type", at="yesterday"),
    values("at_date_only", "wrong_type", at="2025-10-09"),
    values("at_empty", "wrong_type", at="", not_in=BEYOND_CSV),
    values("at_fraction", "wrong_type", at=NOW_US + 0.5),
    values("at_true", "wrong_type", at=True),
    values("at_iso", None, at="2025-10-09T08:53:20"),
    values("at_iso_zone", None, at="2025-10-09T10:53:20+02:00"),
    values("at_iso_nanoseconds", None, at="2025-10-09T08:53:19.123456789Z"),
    values("at_leap_second", "wrong_type", at="2025-06-30T23:59:60Z"),
    values("at_30_february", "wrong_type", at="2025-02-30T00:00:00Z"),
    values("at_datetime", None, at=datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC)),
    values("at_in_seconds", None, at=NOW_US // 1_000_000),
    values("at_in_milliseconds", None, at=NOW_US // 1_000),
    values("at_in_nanoseconds", "time_out_of_range", at=NOW_US * 1_000),
    values("at_zero", None, at=0),
    values("at_before_1970", None, at=-1),
    values("at_1899", "time_out_of_range", at="1899-12-31T23:59:59Z"),
    values("at_year_1", "time_out_of_range", at="0001-01-01T00:00:00+14:00"),
    values("at_year_9999", "time_out_of_range", at="9999-12-31T23:59:59-12:00"),
    values("at_year_1_datetime", "time_out_of_range", at=datetime(1, 1, 1, tzinfo=EASTMOST), not_in="table"),
    values(
        "at_year_9999_datetime",
        "time_out_of_range",
        at=datetime(9999, 12, 31, 23, tzinfo=WESTMOST),
        not_in="table",
    ),
    values("at_largest_int", "time_out_of_range", at=2**63 - 1),
    values("at_beyond_int64", "number_out_of_range", at=2**63, not_in="csv table"),
    values("at_next_year", None, at=NOW_US + 365 * 86_400_000_000, live="in_future"),
    values("at_six_minutes_ahead", None, at=NOW_US + 360_000_000, live="in_future"),
    values("at_four_minutes_ahead", None, at=NOW_US + 240_000_000),
    values("opened_null_optional", None, opened=None),
    values("opened_year_1", "time_out_of_range", opened="0001-01-01T00:00:00Z"),
    # Fields
    without("nothing_but_braces", "missing_field", *GOOD),
    without("amount_missing", "missing_field", "amount"),
    values("unknown_field", None, other="x"),
    values("unknown_field_list", None, other=[1, {"a": 2}], not_in="csv table"),
    text("unknown_long_key", None, '@,"' + "k" * 100_000 + '":1}'),
    text("unknown_field_too_large", "event_too_large", '@,"other":"' + "x" * (1 << 20) + '"}'),
    text("key_with_escape", None, '@,"c\\u0061rd":"c-2"}'),
    text("key_twice", None, '@,"amount":1,"amount":2}'),
    text("key_in_capitals", "missing_field", '{"ID":"a","CARD":"b","AT":1,"AMOUNT":1}'),
    text("many_unknown_fields", None, "@," + ",".join(f'"k{i}":{i}' for i in range(5000)) + "}"),
    # The shape of a line
    text("nan_literal", "not_finite", '@,"amount":NaN}'),
    text("infinity_literal", "not_finite", '@,"amount":-Infinity}'),
    text("not_json", "malformed_json", "hello"),
    text("cut_off", "malformed_json", "@"),
    text("cut_off_in_text", "malformed_json", '@,"card":"c-'),
    text("trailing_comma", "malformed_json", "@,}"),
    text("trailing_garbage", "malformed_json", "@}}"),
    text("two_events_on_a_line", "malformed_json", "@} @}"),
    text("two_events_without_space", "malformed_json", "@}@}"),
    text("single_quotes", "malformed_json", "{'id':'a'}"),
    text("comment", "malformed_json", "// nothing"),
    text("python_literals", "malformed_json", '@,"amount":None}'),
    text("nul_bytes", "malformed_json", b"\0" * 512),
    text("utf_16", "invalid_unicode", '{"id":"a"}'.encode("utf-16")),
    text("byte_order_mark", None, b"\xef\xbb\xbf@}"),
    text("carriage_return", None, "@}\r"),
    text("spaces_around", None, " \t @} \t "),
    text("gzip", "invalid_unicode", b"\x1f\x8b\x08\x00\x00"),
    text("array", "not_an_object", "[]"),
    text("array_of_events", "not_an_object", "[@}]"),
    text("number", "not_an_object", "3"),
    text("string", "not_an_object", '"x"'),
    text("null", "not_an_object", "null"),
    text("true", "not_an_object", "true"),
    text("deep_unknown_field", "malformed_json", '@,"other":' + "[" * 100_000 + "]" * 100_000 + "}"),
    text("deep_field", "wrong_type", '@,"card":' + "[" * 100_000 + "]" * 100_000 + "}"),
    text("deep_objects", "malformed_json", '@,"other":' + '{"a":' * 50_000 + "1" + "}" * 50_001),
    text("1_mebibyte_of_garbage", "event_too_large", "x" * ((1 << 20) + 1)),
    # What only Python can express
    python("not_a_dict", "not_an_object", [1, 2]),
    python("none", "not_an_object", None),
    python("contains_itself", "wrong_type", endless()),
    python("deep_list", "wrong_type", {**GOOD, "card": nested(100_000)}),
    python("deep_unknown_list", "malformed_json", {**GOOD, "other": nested(100_000)}),
    python("unknown_surrogate", "invalid_unicode", {**GOOD, "other": "\ud800"}),
    python("unknown_2_mebibytes", "event_too_large", {**GOOD, "other": "x" * (2 << 20)}),
    python("unknown_object", None, {**GOOD, "id": "unknown_object", "other": object()}),
    python("key_not_text", "wrong_type", {**GOOD, 7: 1}),
    python("card_bytes", "wrong_type", {**GOOD, "card": b"c-1"}),
)
