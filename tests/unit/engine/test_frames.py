"""Frames as history mean what the same values mean when they arrive live."""

import json

import numpy as np
import pyarrow as pa
import pytest

from penstock.core.errors import InputError
from penstock.core.types import Bool, Field, Float32, Float64, Int32, Int64, String, Timestamp
from penstock.engine.contract import Contract
from penstock.engine.frames import table_columns
from penstock.kernel.columns import Text
from penstock.plan.nodes import SourceNode

AT = Field("at", Timestamp)


def column(array, dtype):
    return table_columns(pa.table({"x": array}), [Field("x", dtype)], owner="frame")["x"]


def live(value, dtype):
    contract = Contract(SourceNode("s", (Field("x", dtype), AT), "at", None, 0, 0))
    return contract.decode_json(json.dumps({"x": value, "at": 0}).encode()).columns["x"]


def plain(found):
    return found.to_strings() if isinstance(found, Text) else (str(found.values.dtype), found.values.tolist())


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0.1, Float64),
        (0.1, Float32),
        (3, Float64),
        (2**53 + 1, Float64),
        (2**31 - 1, Int32),
        (2**53 + 1, Int64),
        (True, Bool),
        ("Zoe\u0308", String),
        ("\u00eb\U0001f4b3", String),
        (1_760_000_000_000_001, Timestamp),
    ],
)
def test_a_value_of_a_frame_is_the_value_that_arrives_live(value, dtype):
    assert plain(column(pa.array([value]), dtype)) == plain(live(value, dtype))


@pytest.mark.parametrize("nanoseconds", [0, 499, 500, 501, 1499, 1500, -1, -499, -500, -501, -1500])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_nanoseconds_are_rounded_as_they_are_live(nanoseconds, zone):
    given = pa.array([nanoseconds], pa.timestamp("ns", zone))
    contract = Contract(SourceNode("s", (AT,), "at", None, 0, 0))
    arrived = contract.decode_table(pa.table({"at": given})).columns["at"]
    assert plain(column(given, Timestamp)) == plain(arrived)


def test_nulls_and_nan_are_null():
    found = column(pa.array([1.0, None, float("nan")]), Float32)
    assert found.valid.tolist() == [True, False, False]
    assert column(pa.array([None, 5], pa.int64()), Int32).valid.tolist() == [False, True]


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (pa.array([2**31]), Int32),
        (pa.array([1.5]), Int64),
        (pa.array([2**63], pa.uint64()), Int64),
        (pa.array(["x"]), Float64),
        (pa.array([b"\xff"], pa.binary()).view(pa.string()), String),
        (pa.array([[1]]), Float64),
    ],
)
def test_what_does_not_fit_names_frame_and_column(array, dtype):
    with pytest.raises(InputError, match=r"frame: column 'x'"):
        column(array, dtype)


def test_a_missing_column_names_those_that_there_are():
    with pytest.raises(InputError, match=r"'y' \(Int64\) is missing; there are x"):
        table_columns(pa.table({"x": [1]}), [Field("y", Int64)], owner="frame")


def test_slices_and_chunks_are_taken_where_they_start():
    chunks = pa.chunked_array([pa.array(["x", "a"]).slice(1), pa.array(["b", "y"]).slice(0, 1)])
    assert column(chunks, String).to_strings() == ["a", "b"]
    np.testing.assert_array_equal(column(pa.array([1, 2, 3]).slice(1), Int64).values, [2, 3])
