"""Columns as functions see them, and back: by the schema alone, each value as it would be alone, and as the oracle casts."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.types import ALL_TYPES, Bool, Field, Float32, Float64, Int32, Int64, String, Timestamp
from penstock.engine.values import LazyArrays, from_values, to_array, to_list, to_rows
from penstock.kernel.columns import Columns, Numeric, Text
from penstock.testing.reference_rows import cast, scalar

pd = pytest.importorskip("pandas")

NOW = datetime(2025, 10, 9, 8, 53, 20, 123456, tzinfo=UTC)
NOW_US = 1_760_000_000_123_456
NUMBERS = [
    0,
    1,
    -1,
    True,
    False,
    1.0,
    0.0,
    1.5,
    2**53 + 1,
    2**31 - 1,
    2**31,
    -(2**31) - 1,
    2**63 - 1,
    -(2**63),
    2**63,
]
FLOATS = [1e300, 1e39, 5e-324, -0.0, 0.1, math.nan, math.inf, -math.inf, float(2**62), float(2**63)]
NUMPY = [np.float32(0.1), np.float64(2.0), np.int8(1), np.uint64(2**64 - 1), np.bool_(True)]
OTHERS = [
    None,
    "1.5",
    "",
    "text",
    b"x",
    pd.NA,
    pd.NaT,
    NOW,
    NOW.replace(tzinfo=None),
    pd.Timestamp(NOW),
    timedelta(1),
    [1],
    {},
]
VALUES = [*NUMBERS, *FLOATS, *NUMPY, *OTHERS]


def outcome(column):
    return [None if v is None else (type(v), repr(v)) for v in values_of(column)]


def values_of(column):
    if isinstance(column, Text):
        return column.to_strings()
    valid = np.ones(len(column), bool) if column.valid is None else column.valid
    return [v if ok else None for v, ok in zip(column.values.tolist(), valid.tolist(), strict=True)]


def converted(values, dtype):
    try:
        return outcome(from_values(values, Field("x", dtype), owner="view v"))
    except InputError:
        return "refused"


def oracle(value, dtype):
    try:
        result = cast(scalar(value), dtype)
    except InputError:
        return "refused"
    return [None if result is None else (type(result), repr(result))]


@pytest.mark.parametrize("dtype", ALL_TYPES, ids=repr)
@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{type(v).__name__}:{v!r}")
def test_a_value_becomes_what_the_oracle_makes_of_it(value, dtype):
    assert converted([value], dtype) == oracle(value, dtype)


@pytest.mark.parametrize("dtype", ALL_TYPES, ids=repr)
def test_a_value_among_others_becomes_what_it_is_alone(dtype):
    good = [v for v in VALUES if converted([v], dtype) != "refused"]
    bad = [v for v in VALUES if converted([v], dtype) == "refused"]
    assert len(good) > 1
    assert converted(good, dtype) == [converted([v], dtype)[0] for v in good]
    for value in bad:
        assert converted([good[0], value, good[1]], dtype) == "refused"


@pytest.mark.parametrize("dtype", ALL_TYPES, ids=repr)
@pytest.mark.parametrize(
    "array",
    [
        np.array([0, 1], np.int8),
        np.array([1, 2**31], np.int64),
        np.array([1, 2**63], np.uint64),
        np.array([0.0, 1.0, np.nan]),
        np.array([0.5, np.inf]),
        np.array([1.0, 2.0**63]),
        np.array([1.0, 1e39]),
        np.array([0.1, 3.0], np.float32),
        np.array([True, False]),
        np.array(["a", ""]),
        np.array(["2025-10-09T08:53:20.123456789", "NaT"], "M8[ns]"),
        np.array([1, 2], "m8[s]"),
        np.array([1 + 2j]),
    ],
    ids=lambda a: f"{a.dtype}",
)
def test_arrays_are_as_their_elements(array, dtype):
    alone = [converted(array[i : i + 1], dtype) for i in range(len(array))]
    expected = "refused" if "refused" in alone else [one[0] for one in alone]
    assert converted(array, dtype) == expected
    if array.dtype.kind in "iufb":
        assert alone == [oracle(v, dtype) for v in array]


def test_what_is_not_one_value_a_row_is_refused():
    for values in ([[1, 2], [3, 4]], np.zeros((2, 2)), np.array(5)):
        with pytest.raises(InputError, match=r"view v: column 'x'"):
            from_values(values, Field("x", Float64), owner="view v")


def test_refusals_name_what_was_found_and_is_declared():
    with pytest.raises(
        InputError,
        match=r"view v: column 'x' holds float64 values that are not Int64 \(a value has a fraction\)",
    ):
        from_values(np.array([1.5]), Field("x", Int64), owner="view v")
    assert converted([Decimal("1.5")], Float64) == [(float, "1.5")]


COLUMNS = Columns(
    2,
    {
        "text": Text.from_strings(["a", None]),
        "time": Numeric(np.array([NOW_US, 0]), np.array([True, False])),
        "whole": Numeric(np.array([7, 0]), np.array([True, False])),
        "number": Numeric(np.array([0.5, 0.0]), np.array([True, False])),
        "flag": Numeric(np.array([True, False]), np.array([True, False])),
        "required": Numeric(np.array([7, 8])),
    },
)
FIELDS = [
    Field("text", String, optional=True),
    Field("time", Timestamp, optional=True),
    Field("whole", Int64, optional=True),
    Field("number", Float64, optional=True),
    Field("flag", Bool, optional=True),
    Field("required", Int32),
]
GIVEN = {field.name: field for field in FIELDS}


@pytest.mark.parametrize("rows", [[0], [1], [0, 1], []])
def test_what_a_function_sees_depends_on_the_schema_alone(rows):
    part = COLUMNS.take(np.array(rows, np.int64))
    arrays = LazyArrays(part, GIVEN)
    assert [str(arrays[f.name].dtype) for f in FIELDS] == [
        "object",
        "datetime64[us]",
        "float64",
        "float64",
        "float64",
        "int64",
    ]
    whole = LazyArrays(COLUMNS, GIVEN)
    for f in FIELDS:
        np.testing.assert_array_equal(arrays[f.name], whole[f.name][rows])
    assert to_rows(part, FIELDS) == [to_rows(COLUMNS, FIELDS)[row] for row in rows]


def test_rows_hold_python_values():
    assert to_rows(COLUMNS, FIELDS) == [
        {"text": "a", "time": NOW, "whole": 7, "number": 0.5, "flag": True, "required": 7},
        {"text": None, "time": None, "whole": None, "number": None, "flag": None, "required": 8},
    ]
    assert to_list(Numeric(np.array([np.nan, 1.0])), Float64) == [None, 1.0]


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
def test_what_is_handed_back_is_what_was_given(field):
    column = COLUMNS[field.name]
    for values in (to_array(column, field), to_list(column, field.dtype)):
        assert outcome(from_values(values, field, owner="v")) == outcome(column)


def test_an_array_handed_back_untouched_is_recognised():
    arrays = LazyArrays(COLUMNS, GIVEN)
    assert arrays.origin(arrays["number"], Float64) is COLUMNS["number"]
    assert arrays.origin(arrays["number"], Int64) is None
    assert arrays.origin(arrays["number"] + 0, Float64) is None
    assert (list(arrays), len(arrays)) == ([f.name for f in FIELDS], 6)


def test_float32_is_rounded():
    column = from_values(np.array([0.1, 1e39]), Field("x", Float32), owner="v")
    assert values_of(column) == [float(np.float32(0.1)), None]
