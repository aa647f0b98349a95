"""Users' functions in each mode: the same values for one row and many, rows dropped, and wrong returns refused."""

import numpy as np
import pytest

from penstock.core.errors import TransformError
from penstock.core.types import Bool, Field, Float32, Float64, Int64, String, Timestamp
from penstock.engine.transform import ROW, call_realtime, call_view
from penstock.engine.values import LazyArrays
from penstock.kernel.columns import Columns, Numeric, Text

pl = pytest.importorskip("polars")

MODES = ["numpy", "python", "pandas", "polars"]
SOME = np.array([True, False, True])
FIELDS = [
    Field("text", String, optional=True),
    Field("time", Timestamp, optional=True),
    Field("whole", Int64, optional=True),
    Field("number", Float64, optional=True),
    Field("flag", Bool, optional=True),
    Field("required", Int64),
]
COLUMNS = Columns(
    3,
    {
        "text": Text.from_strings(["a", None, "e"]),
        "time": Numeric(np.array([1_760_000_000_123_456, 0, -1]), SOME),
        "whole": Numeric(np.array([7, 0, -7]), SOME),
        "number": Numeric(np.array([0.5, 0.0, -0.0]), SOME),
        "flag": Numeric(np.array([True, False, False]), SOME),
        "required": Numeric(np.array([1, 2, 3])),
    },
)
EMPTY = COLUMNS.take(np.array([], np.int64))


def plain(columns):
    out = {}
    for name, column in columns.columns.items():
        values = column.to_strings() if isinstance(column, Text) else column.values.tolist()
        valid = [True] * len(values) if column.valid is None else column.valid.tolist()
        out[name] = [repr(v) if ok and v is not None else None for v, ok in zip(values, valid, strict=True)]
    return out


GIVEN = {field.name: field for field in FIELDS}


def view(function, mode, columns=COLUMNS, wanted=FIELDS):
    return call_view(function, mode, columns, GIVEN, wanted, owner="view v")


def identity(rows):
    return rows


DROP_SECOND = {
    "numpy": lambda rows: {name: rows[name][rows["required"] != 2] for name in (*rows, ROW)},
    "python": lambda row: None if row["required"] == 2 else row,
    "pandas": lambda frame: frame[frame["required"] != 2],
    "polars": lambda frame: frame.filter(pl.col("required") != 2),
}
DROP_ALL = {
    "numpy": lambda rows: {name: rows[name][:0] for name in (*rows, ROW)},
    "python": lambda row: None,
    "pandas": lambda frame: frame[:0],
    "polars": lambda frame: frame.head(0),
}
REVERSED = {
    "numpy": lambda rows: {name: rows[name][::-1] for name in (*rows, ROW)},
    "pandas": lambda frame: frame.iloc[::-1],
    "polars": lambda frame: frame.reverse(),
}
MORE = {
    "numpy": lambda rows: {name: np.repeat(rows[name], 2) for name in rows},
    "pandas": lambda frame: frame.loc[[0, 0, 1, 2]],
    "polars": lambda frame: pl.concat([frame, frame]),
}
UNMARKED = {
    "numpy": lambda rows: {name: rows[name][1:] for name in rows},
    "pandas": lambda frame: frame[1:].reset_index(drop=True).iloc[[1, 0]],
    "polars": lambda frame: frame.drop(ROW).head(2),
}
WITHOUT_NUMBER = {
    "numpy": lambda rows: {name: rows[name] for name in rows if name != "number"},
    "python": lambda row: {name: value for name, value in row.items() if name != "number"},
    "pandas": lambda frame: frame.drop(columns="number"),
    "polars": lambda frame: frame.drop("number"),
}
NUMBER_AS_TEXT = {
    "numpy": lambda rows: {**rows, "number": np.array(["1"] * len(rows["number"]))},
    "python": lambda row: {**row, "number": "1"},
    "pandas": lambda frame: frame.assign(number="1"),
    "polars": lambda frame: frame.with_columns(number=pl.lit("1")),
}
SHOUTED = {
    "numpy": lambda rows: {"text": np.array([None if t is None else t + "!" for t in rows["text"]], object)},
    "python": lambda row: {"text": None if row["text"] is None else row["text"] + "!"},
    "pandas": lambda frame: frame.assign(text=frame["text"] + "!"),
    "polars": lambda frame: frame.with_columns(pl.col("text") + "!"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [[0, 1, 2], [0], [1], [2], []])
def test_columns_pass_through_unchanged_whatever_rows_there_are(mode, rows):
    given = COLUMNS.take(np.array(rows, np.int64))
    made = view(identity, mode, given)
    assert made.rows is None
    assert plain(made.columns) == plain(given)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [[0, 1, 2], [0], [1], [2]])
def test_texts_with_nulls_are_the_same_alone_and_among_others(mode, rows):
    made = view(SHOUTED[mode], mode, COLUMNS.take(np.array(rows)), FIELDS[:1])
    assert plain(made.columns)["text"] == [["'a!'", None, "'e!'"][row] for row in rows]


@pytest.mark.parametrize("mode", MODES)
def test_dropping_rows(mode):
    made = view(DROP_SECOND[mode], mode)
    assert made.rows.tolist() == [0, 2]
    assert plain(made.columns) == plain(COLUMNS.take(np.array([0, 2])))
    for row in range(3):
        one = view(DROP_SECOND[mode], mode, COLUMNS.take(np.array([row])))
        assert (one.rows is None) == (row != 1)
        assert one.columns.length == (row != 1)


@pytest.mark.parametrize("mode", MODES)
def test_dropping_all_rows(mode):
    made = view(DROP_ALL[mode], mode)
    assert (made.rows.tolist(), made.columns.length) == ([], 0)
    assert view(DROP_ALL[mode], mode, EMPTY).columns.length == 0


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (REVERSED, "reorder"),
        (MORE, "rows"),
        (UNMARKED, "drop"),
        (WITHOUT_NUMBER, "did not return column 'number'"),
        (NUMBER_AS_TEXT, "'number' holds .* that are not Float64"),
        (dict.fromkeys(MODES, lambda rows: 7), "the function returned"),
        (dict.fromkeys(MODES, lambda rows: 1 / 0), "ZeroDivisionError"),
        (dict.fromkeys(MODES, lambda rows: rows["absent"]), "failed with"),
    ],
    ids=["reversed", "more", "unmarked", "without", "type", "seven", "raises", "absent"],
)
@pytest.mark.parametrize("mode", MODES)
def test_wrong_returns_are_transform_errors(mode, functions, message):
    if mode not in functions:
        return
    with pytest.raises(TransformError, match=rf"view v: (?s:.*){message}"):
        view(functions[mode], mode)


@pytest.mark.parametrize(
    "returned",
    [
        {"number": [[1], [2, 3], [4]]},
        {"number": np.zeros((3, 2))},
        {"number": [1.0, 2.0]},
        {"number": object()},
        {"number": 1.0, ROW: 5},
        {"number": [1.0], ROW: ["x"]},
        {"number": [1.0], ROW: [3]},
        {"number": [1.0, 2.0], ROW: [0, 1, 2]},
    ],
    ids=range(8),
)
def test_odd_returns_in_mode_numpy_are_transform_errors(returned):
    with pytest.raises(TransformError, match="view v"):
        view(lambda rows: returned, "numpy", wanted=[Field("number", Float64)])


def test_a_value_for_all_rows_counts_for_each():
    made = view(
        lambda rows: {"number": 1, "text": "x", "whole": None},
        "numpy",
        wanted=[FIELDS[3], FIELDS[0], FIELDS[2]],
    )
    assert plain(made.columns) == {"number": ["1.0"] * 3, "text": ["'x'"] * 3, "whole": [None] * 3}


def test_a_row_that_lacks_a_column_fails_among_others_as_it_does_alone():
    def sometimes(row):
        return {"number": 1.0} if row["required"] != 2 else {}

    with pytest.raises(TransformError, match="did not return column 'number'"):
        view(sometimes, "python", wanted=[FIELDS[3]])
    with pytest.raises(TransformError, match="did not return column 'number'"):
        view(sometimes, "python", COLUMNS.take(np.array([1])), [FIELDS[3]])
    assert view(sometimes, "python", COLUMNS.take(np.array([0])), [FIELDS[3]]).columns.length == 1


def test_without_a_function_columns_are_selected():
    made = call_view(None, "numpy", COLUMNS, GIVEN, FIELDS[:2], owner="view v")
    assert made.columns["text"] is COLUMNS["text"]
    assert list(made.columns.columns) == ["text", "time"]


@pytest.mark.parametrize("mode", MODES)
def test_realtime_functions_take_one_argument_a_source(mode):
    def ratio(request, totals):
        if mode == "polars":
            return request.select(ratio=request["required"] / totals["required"], _row=pl.col(ROW))
        if mode == "pandas":
            return (request["required"] / totals["required"]).to_frame("ratio")
        return {"ratio": request["required"] / totals["required"]}

    wanted = [Field("ratio", Float64)]
    both = [(COLUMNS, GIVEN), (COLUMNS, GIVEN)]
    assert plain(call_realtime(ratio, mode, both, wanted, owner="view v")) == {"ratio": ["1.0"] * 3}


@pytest.mark.parametrize("mode", MODES)
def test_a_realtime_function_may_not_drop_rows(mode):
    with pytest.raises(TransformError, match="one a row"):
        call_realtime(DROP_SECOND[mode], mode, [(COLUMNS, GIVEN)], [FIELDS[3]], owner="view v")


def write(rows):
    array = rows["number"]
    array[:] = 0.0
    return {"number": array}


def add(rows):
    array = rows["number"]
    array += 1.0
    return {"number": array}


def sort(rows):
    rows["number"].sort()
    return {"number": rows["number"]}


@pytest.mark.parametrize("function", [write, add, sort])
@pytest.mark.parametrize("valid", [None, SOME])
def test_arguments_cannot_be_changed_in_place(function, valid):
    """Else the event in the log, and what other views see, would change with them."""
    values = np.array([0.5, 0.25, -1.0])
    columns = [(Columns(3, {"number": Numeric(values, valid)}), {FIELDS[3].name: FIELDS[3]})]
    with pytest.raises(TransformError, match=r"view v: .*read-only.*copy it first"):
        call_view(function, "numpy", *columns[0], FIELDS[3:4], owner="view v")
    with pytest.raises(TransformError, match="copy it first"):
        call_realtime(function, "numpy", columns, FIELDS[3:4], owner="view v")
    assert values.tolist() == [0.5, 0.25, -1.0]


@pytest.mark.parametrize("name", [f.name for f in FIELDS])
def test_all_arrays_are_read_only_whatever_they_hold(name):
    for columns in (COLUMNS, COLUMNS.take(np.array([0]))):
        array = LazyArrays(columns, GIVEN)[name]
        with pytest.raises(ValueError, match="read-only"):
            array[:] = array[0]


def test_frames_own_what_they_hold():
    """Functions of pandas may write into their frame: it is theirs."""
    pd = pytest.importorskip("pandas")
    given = Columns(
        3, {"number": Numeric(np.array([0.5, -1.0, 2.0])), "text": Text.from_strings(["a", "b", "c"])}
    )
    fields = [FIELDS[3], FIELDS[0]]

    def clip(frame):
        frame.loc[frame["number"] < 0, "number"] = 0.0
        frame["text"] = frame["text"].mask(frame["number"] > 1, "z")
        frame.loc[0, "text"] = "y"
        assert isinstance(frame, pd.DataFrame)
        return frame

    made = call_view(clip, "pandas", given, {f.name: f for f in fields}, fields, owner="view v")
    assert plain(made.columns) == {"number": ["0.5", "0.0", "2.0"], "text": ["'y'", "'b'", "'z'"]}
    assert plain(given) == {"number": ["0.5", "-1.0", "2.0"], "text": ["'a'", "'b'", "'c'"]}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "dtype"), [("number", Int64), ("number", String), ("text", Float64), ("required", String)]
)
def test_a_column_handed_back_untouched_must_be_of_the_declared_type(mode, name, dtype):
    wanted = [Field(name, dtype)]
    with pytest.raises(TransformError, match=f"column '{name}' holds"):
        view(identity, mode, wanted=wanted)
    with pytest.raises(TransformError, match=f"column '{name}' holds"):
        call_realtime(identity, mode, [(COLUMNS, GIVEN)], wanted, owner="view v")


@pytest.mark.parametrize("mode", MODES)
def test_a_column_handed_back_untouched_becomes_the_declared_type(mode):
    values = Columns(2, {"number": Numeric(np.array([0.1, 1e39]))})
    made = call_view(
        identity,
        mode,
        values,
        {FIELDS[3].name: FIELDS[3]},
        [Field("number", Float32, optional=True)],
        owner="v",
    )
    assert plain(made.columns) == {"number": [repr(float(np.float32(0.1))), None]}


@pytest.mark.parametrize(
    "function",
    [
        lambda frame: frame[frame["required"] > 1].reset_index(drop=True),
        lambda frame: frame.sort_values("required", ascending=False).reset_index(drop=True),
        lambda frame: frame.sort_values("required", ascending=False, ignore_index=True),
        lambda frame: frame[::-1].reset_index(),
        lambda frame: frame.merge(frame, on=[f.name for f in FIELDS]),
        lambda frame: frame.set_index("required", drop=False),
    ],
    ids=["filtered", "sorted", "ignored", "moved", "merged", "other"],
)
def test_a_frame_must_keep_its_index(function):
    """Else rows would get the keys and times of others, and nothing would tell."""
    with pytest.raises(TransformError, match=r"view v: (?s:.*)Keep the index"):
        view(function, "pandas")
    with pytest.raises(TransformError, match="Keep the index"):
        call_realtime(function, "pandas", [(COLUMNS, GIVEN)], FIELDS, owner="view v")


@pytest.mark.parametrize(
    "function",
    [
        lambda frame: type(frame)({f.name: frame[f.name] for f in FIELDS}),
        lambda frame: type(frame)({f.name: frame[f.name].array for f in FIELDS}, index=frame.index),
        lambda frame: frame.assign(required=frame["required"] * 1).copy(),
    ],
    ids=["series", "arrays", "assigned"],
)
def test_a_new_frame_may_have_the_index_of_its_input(function):
    assert plain(view(function, "pandas").columns) == plain(COLUMNS)
