"""Which changes of a schema leave earlier events readable."""

import pytest

from penstock.plan.compatibility import changes
from penstock.types import Bool, Field, Float32, Float64, Int32, Int64, String, Timestamp

TYPES = (Int32, Int64, Float32, Float64, String, Bool, Timestamp)
WIDER = {(Int32, Int64), (Float32, Float64)}


@pytest.mark.parametrize("old", TYPES, ids=str)
@pytest.mark.parametrize("new", TYPES, ids=str)
def test_only_widening_changes_a_type(old, new):
    verdicts = [change.verdict for change in changes([Field("a", old)], [Field("a", new)])]
    expected = [] if old is new else ["allowed" if (old, new) in WIDER else "refused"]
    assert verdicts == expected


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ([], [Field("a", Int32, optional=True)], "allowed"),
        ([], [Field("a", Int32)], "refused"),
        ([Field("a", Int32)], [], "if unneeded"),
        ([Field("a", Int32)], [Field("a", Int32, optional=True)], "if unneeded"),
        ([Field("a", Int32, optional=True)], [Field("a", Int32)], "refused"),
    ],
)
def test_coming_going_and_being_optional(old, new, verdict):
    (change,) = changes(old, new)
    assert change.verdict == verdict
    assert change.text.startswith("a ")
    assert bool(change.advice) == (verdict != "allowed")


def test_two_changes_of_one_field_are_two():
    assert [c.verdict for c in changes([Field("a", Int32)], [Field("a", Int64, optional=True)])] == [
        "allowed",
        "if unneeded",
    ]


def test_order_means_nothing():
    fields = [Field("a", Int32), Field("b", String)]
    assert changes(fields, fields[::-1]) == []
