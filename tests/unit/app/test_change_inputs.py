"""Texts of changed rows as the types of a source."""

import pytest

pytest.importorskip("psycopg")
from penstock.app.change_inputs import typed
from penstock.core.types import Bool, Field, Float32, Float64, Int32, Int64, String, Timestamp
from penstock.definitions.sources import PushConfig, StreamSource
from penstock.engine.contract import Contract
from penstock.plan.compile import source_node

TEXTS = {
    Int32: "7",
    Int64: "-9",
    Float32: "0.5",
    Float64: "1e3",
    Bool: "t",
    String: "x",
    Timestamp: "2026-01-01 00:00:00+00",
}


def contract():
    fields = [Field(dtype.name.lower(), dtype, optional=dtype is not Timestamp) for dtype in TEXTS]
    return Contract(source_node(StreamSource("people", PushConfig(), schema=fields)))


def test_a_row_of_every_type_is_accepted():
    row = {dtype.name.lower(): text for dtype, text in TEXTS.items()} | {"more": "1"}
    decoded = contract().decode_dicts(typed([row], contract()))
    assert decoded.refused == ()
    found = {
        name: column.to_strings() if name == "string" else column.values.tolist()
        for name, column in decoded.columns.columns.items()
    }
    assert (found["int32"], found["int64"], found["float32"], found["float64"]) == (
        [7],
        [-9],
        [0.5],
        [1000.0],
    )
    assert (found["bool"], found["string"]) == ([True], ["x"])


@pytest.mark.parametrize("dtype", [Int32, Int64, Float32, Float64, Bool])
def test_a_text_of_another_type_stays_to_be_refused(dtype):
    row = {"timestamp": TEXTS[Timestamp], dtype.name.lower(): "much"}
    (refused,) = contract().decode_dicts(typed([row], contract())).refused
    assert refused.reason == "wrong_type"
