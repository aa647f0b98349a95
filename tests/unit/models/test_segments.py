import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.kernel.columns import Numeric, Text
from penstock.models.manifest import Feature
from penstock.models.segments import NONE, OTHER, most_frequent, segment_masks, segments_of


def told(segments):
    return [segments.names[code] for code in segments.codes.tolist()]


def test_whole_numbers_and_texts_are_segments_by_value():
    assert told(segments_of(Text.from_strings(["DE", None, "FR", "DE"]), "String")) == [
        "DE", NONE, "FR", "DE",
    ]  # fmt: skip
    valid = np.array([True, False, True])
    assert told(segments_of(Numeric(np.array([7, 0, 7]), valid), "Int64")) == ["7", NONE, "7"]
    assert told(segments_of(Numeric(np.array([True, False, True]), valid), "Bool")) == ["true", NONE, "true"]


def test_no_two_numbers_share_a_name():
    numbers = Numeric(np.array([1234567.0, 1234568.0, 0.1, np.nan]))
    assert told(segments_of(numbers, "Int64")) == ["1234567", "1234568", "0.1", NONE]


def test_in_a_stream_a_rows_segment_depends_on_that_row_alone():
    values = np.random.default_rng(1).lognormal(0, 6, 400) * np.tile([1, -1], 200)
    values[:4] = [0.0, np.nan, np.inf, -np.inf]
    together = told(segments_of(Numeric(values), "Float64"))
    alone = [told(segments_of(Numeric(values[i : i + 1]), "Float64"))[0] for i in range(len(values))]
    assert together == alone
    assert together[:4] == ["0", NONE, "from 5e+14", "to -5e+14"]


@pytest.mark.parametrize(
    ("value", "segment"),
    [(1.0, "1…2"), (1.999, "1…2"), (2.0, "2…5"), (5.0, "5…10"), (10.0, "10…20"), (-3.0, "-5…-2"), (0.1, "0.1…0.2")],
)  # fmt: skip
def test_steps_hold_their_lower_edge(value, segment):
    assert told(segments_of(Numeric(np.array([value])), "Float64")) == [segment]


def test_rows_that_are_all_there_have_quarters():
    found = segments_of(Numeric(np.arange(100.0)), "Float64", most=20)
    assert np.bincount(found.codes).tolist() == [25, 25, 25, 25]
    assert found.names == ("in (-inf, 24]", "in (24, 49]", "in (49, 74]", "> 74")
    few = segments_of(Numeric(np.array([0.5, 1.5, 0.5])), "Float64", most=20)
    assert told(few) == ["0.5", "1.5", "0.5"]


def test_the_values_with_the_most_rows_are_told_apart():
    codes = Text.from_strings(["a", "b", "b", "c", "c", "c", None, "d"])
    found = segments_of(codes, "String", most=2)
    assert told(found) == [OTHER, "b", "b", "c", "c", "c", NONE, OTHER]
    tied = most_frequent(segments_of(Text.from_strings(["z", "y", "x"]), "String"), 1)
    assert told(tied) == [OTHER, OTHER, "x"]


def test_masks_cover_every_row_once():
    draw = np.random.default_rng(2)
    vectors = np.column_stack([draw.integers(0, 40, 500), draw.normal(size=500)]).astype(float)
    vectors[:50] = np.nan
    features = [Feature("payment.mcc", "Int64"), Feature("payment.amount", "Float64")]
    columns = {"country": (Text.from_strings(draw.choice(["DE", "FR", "IT"], 500).tolist()), "String")}
    for name in ("payment.mcc", "mcc", "amount", "country"):
        masks = segment_masks(vectors, features, [name], columns=columns, most=10)
        assert np.array_equal(sum(mask.astype(int) for mask in masks.values()), np.ones(500))
    assert len(segment_masks(vectors, features, ["mcc"], most=10)) == 12  # ten, the others, and null
    assert set(segment_masks(vectors, features, ["country"], columns=columns)) == {
        "country = DE", "country = FR", "country = IT",
    }  # fmt: skip
    with pytest.raises(InputError, match="'shop' names 0 features; allowed are"):
        segment_masks(vectors, features, ["shop"], columns=columns)
