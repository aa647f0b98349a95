"""Schemas of batch sources that change: a row that the log has is that row, whatever its table holds besides."""

from threading import Event

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.app.batch_inputs import batch_inputs
from penstock.app.inputs import inputs_of
from penstock.app.materializing import materialize_one
from penstock.app.running import Runner
from penstock.app.runtime import Runtime
from penstock.definitions.project import load_project
from penstock.testing.clock import ManualClock
from tests.unit.app.test_batch_inputs import DEFINITIONS, NOON, logged_rows, project_in

AGE = 'Field("age", Int64, optional=True)'
HOME = AGE + ', Field("home", String, optional=True)'
BOTH = HOME + ', Field("size", Int64, optional=True)'
CONFIG = 'FileConfig("users.csv", "csv")'


def redefine(folder, fields, config=CONFIG):
    project_in(folder, config=config)
    text = DEFINITIONS.format(config=config, schedule="timedelta(hours=1)")
    assert AGE in text
    (folder / "definitions.py").write_text(text.replace(AGE, fields))
    return folder


def table(folder, *rows):
    """Rows like ``a,1,30,Bern,1``: the second number is a day of January."""
    lines = ["user_id,changed,age,home,size"]
    for row in rows:
        user, day, *rest = row.split(",")
        lines.append(",".join([user, f"2026-01-0{day}T00:00:00", *rest]))
    (folder / "users.csv").write_text("\n".join(lines) + "\n")


def taken(folder, fields, config=CONFIG):
    """How many rows of the table are new, how many known, and how many refused."""
    with Runtime.open(redefine(folder, fields, config), clock=ManualClock(NOON)) as runtime:
        (one,) = batch_inputs(runtime)
        found = materialize_one(runtime, one, stop=Event())
        return found.logged, found.duplicate, found.rejected


def homes(folder, fields):
    with Runtime.open(redefine(folder, fields), clock=ManualClock(NOON)) as runtime:
        rows = logged_rows(runtime).to_pylist()
    return [(row["user_id"], row["home"]) for row in rows]


OLD = ("a,1,30,Bern,1", "b,1,40,Genf,2", "b,1,40,Genf,2")


def test_rows_are_not_taken_again_for_a_column_that_their_table_held_before(tmp_path):
    table(tmp_path, *OLD)
    assert taken(tmp_path, AGE) == (3, 0, 0)
    table(tmp_path, *OLD, "c,2,50,Chur,3")
    assert taken(tmp_path, HOME) == (1, 3, 0)
    table(tmp_path, "c,2,50,Chur,3", *reversed(OLD), "d,3,60,,4")
    assert taken(tmp_path, BOTH) == (1, 4, 0)
    assert homes(tmp_path, BOTH) == [("a", None), ("b", None), ("b", None), ("c", "Chur"), ("d", None)]


def test_a_value_of_a_later_column_that_is_corrected_makes_a_new_row(tmp_path):
    table(tmp_path, *OLD)
    taken(tmp_path, AGE)
    table(tmp_path, *OLD, "c,2,50,Chur,3")
    taken(tmp_path, HOME)
    table(tmp_path, *OLD, "c,2,50,Basel,3")
    assert taken(tmp_path, HOME) == (1, 3, 0)
    table(tmp_path, *OLD, "c,2,50,,3")
    assert taken(tmp_path, HOME) == (1, 3, 0), "without a value is another value"
    assert taken(tmp_path, HOME) == (0, 0, 0), "the file did not change"
    table(tmp_path, *OLD, "c,2,50,Basel,3", "c,2,50,,3", "c,2,50,Chur,3")
    assert taken(tmp_path, HOME) == (0, 6, 0)


def test_a_row_without_the_later_column_is_not_taken_for_an_earlier_one(tmp_path):
    table(tmp_path, "a,1,30,Bern,1")
    taken(tmp_path, AGE)
    table(tmp_path, "a,1,30,Bern,1", "a,1,30,,1")
    assert taken(tmp_path, HOME) == (1, 1, 0)
    table(tmp_path, "a,1,30,,1", "a,1,30,Bern,1", "e,1,1,,")
    assert taken(tmp_path, HOME) == (1, 2, 0)


def test_a_widened_column_keeps_its_rows(tmp_path):
    def as_float(name):
        return f'{AGE}, Field("home", String, optional=True), Field("size", {name}, optional=True)'

    folder = redefine(tmp_path, AGE)
    text = (folder / "definitions.py").read_text().replace("Field, Float64", "Field, Float32, Float64")
    for name in ("Float32", "Float64"):
        table(tmp_path, "a,1,30,Bern,0.1", *["b,1,40,Genf,0.1"] * (name == "Float64"))
        (folder / "definitions.py").write_text(text.replace(AGE, as_float(name)))
        with Runtime.open(folder, clock=ManualClock(NOON)) as runtime:
            found = materialize_one(runtime, batch_inputs(runtime)[0], stop=Event())
            assert (found.logged, found.rejected) == (1, 0), name


def test_rows_that_are_handed_in_follow_the_same_rule(tmp_path):
    row = {"user_id": "a", "changed": "2026-01-01T00:00:00", "age": 30, "home": "Bern"}
    with Runtime.open(redefine(tmp_path, AGE), clock=ManualClock(NOON)) as runtime:
        assert [one.status for one in runtime.ingest("users", [row])] == ["logged"]
    with Runtime.open(redefine(tmp_path, HOME), clock=ManualClock(NOON)) as runtime:
        rows = [row, row | {"age": 31}, row | {"age": 31, "home": "Genf"}]
        assert [one.status for one in runtime.ingest("users", rows)] == ["duplicate", "logged", "logged"]


def test_what_becomes_of_the_rows_is_said(tmp_path):
    table(tmp_path, *OLD)
    taken(tmp_path, AGE)
    with Runtime.open(redefine(tmp_path, HOME), clock=ManualClock(NOON)) as runtime:
        (said,) = runtime.contract_changes
    assert said.startswith("users version 2: home String added, optional; rows that the log has keep it null")


@pytest.mark.parametrize("final", [True, False])
def test_a_running_project_reads_the_column_that_came(tmp_path, final):
    config = 'FileConfig("users", "parquet")'
    (tmp_path / "users").mkdir()

    def part(name, user):
        pq.write_table(
            pa.table({"user_id": [user], "changed": [NOON - 1], "age": [30], "home": ["Bern"]}).cast(
                pa.schema(
                    {
                        "user_id": pa.string(),
                        "changed": pa.timestamp("us", "UTC"),
                        "age": pa.int64(),
                        "home": pa.string(),
                    }
                )
            ),
            tmp_path / "users" / name,
        )

    part("1.parquet", "a")
    redefine(tmp_path, AGE, config)
    with Runtime.open(tmp_path, clock=ManualClock(NOON)) as runtime:
        inputs = inputs_of(runtime, {})
        runner = Runner(runtime, inputs, stop=Event())
        runner._pass(final=final)
        redefine(tmp_path, HOME, config)
        runtime.adopt(runtime.prepare(load_project(tmp_path)))
        part("2.parquet", "b")
        inputs[0].read_again()
        runner._pass(final=final)
        runtime.engine.flush()
        rows = [(row["user_id"], row["home"]) for row in logged_rows(runtime).to_pylist()]
        runner._finish()
    assert rows == [("a", None), ("b", "Bern")]
