"""The contract: what each way in makes of good rows, what a dead letter keeps, and that one row is as many."""

import json
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pytest

from penstock.core.limits import KEPT_BYTES, MAX_EVENT_BYTES
from penstock.core.types import Bool, Field, Float32, Float64, Int32, Int64, String, Timestamp
from penstock.engine.contract import Contract
from penstock.kernel.columns import Numeric, Text
from penstock.plan.nodes import SourceNode

pd = pytest.importorskip("pandas")

NOW = datetime(2025, 10, 9, 8, 53, 20, 123456, tzinfo=UTC)
NOW_US = 1_760_000_000_123_456
FIELDS = (
    Field("note", String, optional=True),  # an optional field may come first
    Field("id", String),
    Field("at", Timestamp),
    Field("amount", Float64),
    Field("ratio", Float32, optional=True),
    Field("count", Int64, optional=True),
    Field("small", Int32, optional=True),
    Field("abroad", Bool, optional=True),
    Field("opened", Timestamp, optional=True),
)
CONTRACT = Contract(SourceNode("payments", FIELDS, "at", "id", 0, 0))
FULL = {
    "note": "n\u00f6",
    "id": "a",
    "at": NOW_US,
    "amount": 1.5,
    "ratio": 0.1,
    "count": 2**53 + 1,
    "small": -7,
    "abroad": True,
    "opened": NOW_US - 1,
}
SPARE = {"id": "b", "at": NOW_US, "amount": -0.0}


def lines(*events):
    return b"\n".join(json.dumps(event).encode() for event in events)


def csv_of(*events):
    names = [f.name for f in FIELDS]
    cells = [
        ["" if e.get(n) is None else str(e[n]).lower() if n == "abroad" else str(e[n]) for n in names]
        for e in events
    ]
    return "\n".join(",".join(row) for row in [names, *cells]).encode()


def table_of(*events):
    types = {
        "String": pa.string(),
        "Timestamp": pa.timestamp("us", "UTC"),
        "Float64": pa.float64(),
        "Float32": pa.float32(),
    }
    types |= {"Int64": pa.int64(), "Int32": pa.int32(), "Bool": pa.bool_()}
    return pa.table({f.name: pa.array([e.get(f.name) for e in events], types[f.dtype.name]) for f in FIELDS})


def plain(decoded):
    """Columns as Python values, and whether each has a mask."""
    out = {}
    for name, column in decoded.columns.columns.items():
        values = column.to_strings() if isinstance(column, Text) else column.values.tolist()
        valid = [True] * len(values) if column.valid is None else column.valid.tolist()
        dtype = "text" if isinstance(column, Text) else str(column.values.dtype)
        out[name] = (
            dtype,
            column.valid is None,
            [v if ok else None for v, ok in zip(values, valid, strict=True)],
        )
    return out


WAYS = {
    "json": lambda *events: CONTRACT.decode_json(lines(*events)),
    "dicts": lambda *events: CONTRACT.decode_dicts(list(events)),
    "csv": lambda *events: CONTRACT.decode_csv(csv_of(*events)),
    "table": lambda *events: CONTRACT.decode_table(table_of(*events)),
}


@pytest.mark.parametrize("events", [[FULL], [SPARE], [FULL, SPARE], [SPARE, FULL, FULL]])
def test_every_way_in_gives_the_same_columns(events):
    outcomes = [plain(way(*events)) for way in WAYS.values()]
    assert outcomes[0]["amount"] == ("float64", True, [e["amount"] for e in events])
    assert outcomes[0]["ratio"][2] == [np.float32(0.1) if "ratio" in e else None for e in events]
    assert all(outcome == outcomes[0] for outcome in outcomes)


@pytest.mark.parametrize("way", WAYS)
def test_one_row_is_as_many_bit_for_bit(way):
    events = [FULL, SPARE, {**SPARE, "id": "e\u0301"}]
    many = WAYS[way](*events).columns
    for row, event in enumerate(events):
        one = WAYS[way](event).columns
        for name, column in one.columns.items():
            wanted = many[name].take(np.array([row]))
            if isinstance(column, Text):
                assert column.to_strings() == wanted.to_strings()
            else:
                assert column.values.dtype == wanted.values.dtype
                known = wanted.valid is None or wanted.valid[0]
                assert (column.valid is None or column.valid[0]) == known
                assert not known or column.values.tobytes() == wanted.values.tobytes()


@pytest.mark.parametrize("way", WAYS)
def test_no_rows(way):
    decoded = CONTRACT.decode_json(b" \n\n") if way == "json" else WAYS[way]()
    assert (decoded.columns.length, decoded.received, decoded.refused) == (0, 0, ())
    assert set(decoded.columns.columns) == {f.name for f in FIELDS}


@pytest.mark.parametrize("way", ["json", "dicts", "csv"])
def test_a_refused_row_leaves_no_trace_in_the_others(way):
    bad = {**FULL, "id": None, "count": None}
    assert plain(WAYS[way](FULL, bad, FULL)) == plain(WAYS[way](FULL, FULL))
    decoded = WAYS[way](bad, FULL, bad)
    assert decoded.rows.tolist() == [1]
    assert [(r.row, r.reason) for r in decoded.refused] == [(0, "null_field"), (2, "null_field")]


@pytest.mark.parametrize(
    "given",
    [
        NOW,
        NOW.replace(tzinfo=None),
        NOW.astimezone(timezone(timedelta(hours=-3))),
        pd.Timestamp(NOW),
        np.datetime64(NOW_US, "us"),
        np.datetime64(NOW_US * 1000, "ns"),
        np.int64(NOW_US),
        NOW_US,
        NOW.isoformat(),
        "2025-10-09 08:53:20.123456",
        "2025-10-09T08:53:20.123455500Z",
    ],
)
def test_times_in_dicts(given):
    for events in ([{**SPARE, "at": given}], [{**SPARE, "at": given}, SPARE, {**SPARE, "at": NOW}]):
        assert CONTRACT.decode_dicts(events).columns["at"].values.tolist() == [NOW_US] * len(events)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_in_tables(unit, zone):
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    table = pa.table(
        {"id": ["a"], "amount": [1], "at": pa.array([1_760_000_000 * per_second], pa.timestamp(unit, zone))}
    )
    assert CONTRACT.decode_table(table).columns["at"].values.tolist() == [1_760_000_000_000_000]


def test_nanoseconds_are_rounded_alike_in_texts_and_tables():
    for nanoseconds in (0, 499, 500, 501, 999, 1500):
        whole = 1_760_000_000_000_000_000 + nanoseconds
        text = f"2025-10-09T08:53:20.{nanoseconds:09d}Z"
        table = pa.table({"id": ["a"], "amount": [1], "at": pa.array([whole], pa.timestamp("ns"))})
        from_table = CONTRACT.decode_table(table).columns["at"].values
        from_text = CONTRACT.decode_json(lines({**SPARE, "at": text})).columns["at"].values
        assert from_table.tolist() == from_text.tolist()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_times_that_no_clock_shows_are_refused(unit, value):
    table = pa.table({"id": ["a"], "amount": [1], "at": pa.array([value], pa.timestamp(unit))})
    decoded = CONTRACT.decode_table(table)
    reasons = [r.reason for r in decoded.refused]
    assert reasons == ["time_out_of_range"]
    assert decoded.original(0)


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([b"a", b"b"], pa.binary()),
        pa.chunked_array([["a"], ["b"]]),
        pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()]),
        pa.array(["x", "a", "b"]).slice(1),
        pa.chunked_array([pa.array(["x", "a"]).slice(1), pa.array(["b", "y"]).slice(0, 1)]),
    ],
)
def test_texts_of_any_arrow_type(ids):
    table = pa.table({"id": ids, "at": [NOW_US] * 2, "amount": [1, 2]})
    decoded = CONTRACT.decode_table(table)
    assert decoded.columns["id"].to_strings() == ["a", "b"]
    assert decoded.columns["note"].to_strings() == [None, None]


def test_table_texts_that_are_not_utf8_are_refused_one_by_one():
    ids = pa.array([b"a", b"\xff", b"\xc3", b"\xab", "e\u0301".encode()], pa.binary()).view(pa.string())
    decoded = CONTRACT.decode_table(pa.table({"id": ids, "at": [NOW_US] * 5, "amount": [1] * 5}))
    assert decoded.columns["id"].to_strings() == ["a", "\u00e9"]
    assert [(r.row, r.reason) for r in decoded.refused] == [(row, "invalid_unicode") for row in (1, 2, 3)]
    assert b"\\xff" in decoded.refused[0].payload


@pytest.mark.parametrize(
    ("name", "column", "reason"),
    [
        ("amount", pa.array([1.0, None]), "null_field"),
        ("amount", pa.array([1.0, float("nan")]), "not_finite"),
        ("at", pa.array([NOW_US, 2**60]), "time_out_of_range"),
        ("at", pa.array(["2025-10-09T08:53:20Z", "soon"]), "wrong_type"),
        ("small", pa.array([1, 2**31]), "number_out_of_range"),
        ("count", pa.array([1, 2**63], pa.uint64()), "number_out_of_range"),
        ("at", pa.array([NOW_US, 2**63], pa.uint64()), "number_out_of_range"),
        ("count", pa.array([None, 1.0]), "wrong_type"),
        ("note", pa.array([None, 1]), "wrong_type"),
        ("abroad", pa.array([None, 1]), "wrong_type"),
        ("ratio", pa.array([1.0, 1e39]), "number_out_of_range"),
    ],
)
def test_one_bad_value_in_a_table_refuses_one_row(name, column, reason):
    columns = {"id": ["a", "b"], "at": [NOW_US] * 2, "amount": [1.0, 2.0], name: column}
    decoded = CONTRACT.decode_table(pa.table(columns))
    assert [(r.row, r.reason) for r in decoded.refused] == [(1, reason)]
    assert json.loads(decoded.refused[0].payload)["id"] == "b"


@pytest.mark.parametrize(("absent", "reason"), [("amount", "missing_field"), ("id", "missing_field")])
def test_a_table_without_a_required_column_has_no_good_row(absent, reason):
    table = table_of(FULL, SPARE).drop_columns([absent])
    assert [r.reason for r in CONTRACT.decode_table(table).refused] == [reason] * 2


def test_the_last_of_columns_with_one_name_counts_as_in_json():
    table = table_of(SPARE).append_column("amount", [[3.0]])
    assert CONTRACT.decode_table(table).columns["amount"].values.tolist() == [3.0]
    csv = b"id,at,amount,amount\na,5,1,3"
    assert CONTRACT.decode_csv(csv).columns["amount"].values.tolist() == [3.0]
    line = b'{"id":"a","at":5,"amount":1,"amount":3}'
    assert CONTRACT.decode_json(line).columns["amount"].values.tolist() == [3.0]


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (b'a,5,1,"x, ""y"""', 'x, "y"'),
        (b'a,5,1,""', ""),
        (b"a,5,1,", None),
        (b"a,5,1, x ", " x "),
        (b"a,5,1.5e0,5'", "5'"),
        (b'a,5,1,5" pipe', '5" pipe'),
        (b'a,5,1,"open', "malformed_csv"),
        (b'a,5,1,"closed"x', "malformed_csv"),
        (b"a,5,1", "malformed_csv"),
        (b"a,5,1,2,3", "malformed_csv"),
        (b"a,5,1,\xff", "invalid_unicode"),
        (b",5,1,x", "null_field"),
        (b"a,,1,x", "null_field"),
        (b"a,5,one,x", "wrong_type"),
        (b"a,5,nan,x", "not_finite"),
        (b"a,5,1e400,x", "number_out_of_range"),
        (b"a,5,null,x", "wrong_type"),
        (b"a,1522540800.5,1,x", "wrong_type"),
        (b"a,5,1," + b"x" * MAX_EVENT_BYTES, "event_too_large"),
    ],
)
def test_lines_of_csv(line, outcome):
    good = b"g,2025-10-09T08:53:20Z,1,good"
    decoded = CONTRACT.decode_csv(b"id,at,amount,note\r\n" + b"\r\n".join([good, line, b"", good]))
    texts = decoded.columns["note"].to_strings()
    if decoded.refused:
        assert (decoded.rows.tolist(), texts) == ([0, 2], ["good", "good"])
        (refused,) = decoded.refused
        assert (refused.row, refused.reason) == (1, outcome)
        assert refused.payload == (line[:KEPT_BYTES] if outcome == "event_too_large" else line)
    else:
        assert texts == ["good", outcome, "good"]


def test_a_broken_csv_header_refuses_every_line():
    decoded = CONTRACT.decode_csv(b'id,"at,amount\na,5,1\nb,6,2\n')
    assert [r.reason for r in decoded.refused] == ["malformed_csv"] * 2


def test_one_object_a_line_whatever_stands_around_it():
    a, b = lines(SPARE), lines({**SPARE, "id": "c"})
    pretty = json.dumps(SPARE, indent=1).encode()
    assert CONTRACT.decode_json(a + b"\r\n\r\n \t\n" + b).received == 2
    # Two on one line and one on two lines make as many objects as lines, which must not fool the fast path.
    decoded = CONTRACT.decode_json(a + b" " + b + b"\n" + a.replace(b", ", b",\n", 1) + b"\n" + b)
    assert (decoded.received, decoded.columns.length) == (4, 1)
    assert CONTRACT.decode_json(pretty).columns.length == 0


def test_the_original_of_a_row_is_its_line():
    data = b"\n\n" + lines(SPARE) + b"\r\n\n" + lines(FULL) + b"\n"
    decoded = CONTRACT.decode_json(data)
    assert [decoded.original(row) for row in (0, 1)] == [lines(SPARE), lines(FULL)]
    assert json.loads(CONTRACT.decode_table(table_of(SPARE)).original(0))["amount"] == 0.0
    assert CONTRACT.decode_csv(b"id\na\r\n\nb").original(1) == b"b"


def test_long_buffers_and_lines_at_the_bound():
    event = {**SPARE, "other": ""}
    room = MAX_EVENT_BYTES - len(lines(event))
    fits, too_long = lines({**event, "other": "x" * room}), lines({**event, "other": "x" * (room + 1)})
    assert len(fits) == MAX_EVENT_BYTES
    assert CONTRACT.decode_json(b"\n".join([fits, fits])).columns.length == 2
    decoded = CONTRACT.decode_json(b"\n".join([fits, too_long, fits]))
    assert [(r.row, r.reason, len(r.payload)) for r in decoded.refused] == [
        (1, "event_too_large", KEPT_BYTES)
    ]
    assert [r.reason for r in CONTRACT.decode_json(too_long).refused] == ["event_too_large"]


def test_dicts_of_other_kinds_and_numpy_numbers():
    event = {"id": np.str_("a"), "at": np.int64(NOW_US), "amount": np.float32(1.5), "abroad": np.bool_(False)}
    decoded = CONTRACT.decode_dicts([MappingProxyType(event), {**SPARE, "opened": pd.NaT}])
    assert not decoded.refused
    assert decoded.columns["amount"].values.tolist() == [1.5, -0.0]
    assert isinstance(decoded.columns["opened"], Numeric)
    assert decoded.columns["opened"].valid.tolist() == [False, False]
    assert [r.reason for r in CONTRACT.decode_dicts([{**SPARE, "at": pd.NaT}]).refused] == ["null_field"]


@pytest.mark.parametrize(
    "value", [10**5000, object(), {1, 2}, float("nan"), "\ud800", b"\xff"], ids=lambda v: type(v).__name__
)
def test_the_original_of_a_dict_never_fails(value):
    decoded = CONTRACT.decode_dicts([{"id": value, "other": value}])
    assert decoded.refused
    assert decoded.original(0)
    assert isinstance(decoded.refused[0].payload.decode(), str)
