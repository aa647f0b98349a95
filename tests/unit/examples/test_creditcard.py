"""The reader of Kaggle's creditcard.csv, on generated files of its shape."""

import csv
from datetime import timedelta

import pytest

from examples.fraud.creditcard import COMPONENTS, SCHEMA, START, read_creditcard
from tests.unit.examples.creditcard_file import write_creditcard


@pytest.fixture
def file(tmp_path):
    return write_creditcard(tmp_path / "creditcard.csv", 300, frauds=9)


def changed(file, old, new):
    file.write_text(file.read_text().replace(old, new, 1))
    return file


def test_every_value_arrives_as_written(file):
    table = read_creditcard(file)
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    assert table.schema == SCHEMA
    assert table["transaction_id"].to_pylist() == list(range(300))
    assert table["timestamp"].to_pylist() == [START + timedelta(seconds=float(row["Time"])) for row in rows]
    assert table["amount"].to_pylist() == [float(row["Amount"]) for row in rows]
    assert table["is_fraud"].to_pylist() == [row["Class"] == "1" for row in rows]
    for name in COMPONENTS:
        assert table[name].to_pylist() == [float(row[name.upper()]) for row in rows]
    assert sum(table["is_fraud"].to_pylist()) == 9


def test_payments_out_of_order_are_put_in_time_order_and_keep_their_row_number(file):
    header, *lines = file.read_text().splitlines()
    file.write_text("\n".join([header, *reversed(lines)]) + "\n")
    table = read_creditcard(file)
    moments, rows = table["timestamp"].to_pylist(), table["transaction_id"].to_pylist()
    assert list(zip(moments, rows, strict=True)) == sorted(zip(moments, rows, strict=True))
    assert rows[-1] < 10


def test_payments_of_one_second_keep_the_order_of_the_file(file):
    header, *lines = file.read_text().splitlines()
    tied = [f"{row % 2},{line.split(',', 1)[1]}" for row, line in enumerate(lines)]
    file.write_text("\n".join([header, *tied]) + "\n")
    assert read_creditcard(file)["transaction_id"].to_pylist() == [*range(0, 300, 2), *range(1, 300, 2)]


def test_scientific_notation_and_fractions_of_a_second_are_read(file):
    first = file.read_text().splitlines()[1].split(",")
    changed(file, f"\n{first[0]},", "\n1e0,")
    assert read_creditcard(file)["timestamp"][0].as_py() == START + timedelta(seconds=1)


def test_a_missing_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file; download creditcard\.csv from https"):
        read_creditcard(tmp_path / "creditcard.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"V28"', '"V29"', r"missing: \['V28'\], unknown: \['V29'\]"),
        (',"Class"', ',"Class","Class"', "CSV parse error"),
        ('"0"\n', '"2"\n', "Class is 2.0 in data row 1; allowed: 0 or 1"),
        ('"0"\n', "\n", "Class is None in data row 1; allowed: 0 or 1"),
        ('"0"\n', '"no"\n', "invalid value 'no'"),
        ('"0"\n', '"0",7\n', "Expected 31 columns, got 32"),
    ],
)
def test_a_file_of_another_shape_is_refused(file, old, new, message):
    with pytest.raises(ValueError, match=message):
        read_creditcard(changed(file, old, new))


@pytest.mark.parametrize("value", ["", "nan", "inf", "-1"])
def test_an_amount_that_is_no_amount_is_refused(file, value):
    *before, _, label = file.read_text().splitlines()[1].split(",")
    with pytest.raises(
        ValueError, match=r"Amount is .* in data row 1; allowed: a finite number, not negative"
    ):
        read_creditcard(changed(file, file.read_text().splitlines()[1], ",".join([*before, value, label])))


def test_an_empty_table_is_empty_not_an_error(file):
    file.write_text(file.read_text().splitlines()[0] + "\n")
    assert read_creditcard(file).num_rows == 0
