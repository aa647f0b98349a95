"""Kaggle's `creditcard.csv`: two days of real, anonymised card payments (ULB, September 2013).

The file is not ours to ship: put it into the example's data folder. Its columns are Time (seconds since the first
payment), V1 to V28 (principal components), Amount and Class (1: fraud). It names no cards, so there is nothing to
aggregate over: the components are the features.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

CREDITCARD_FILE = Path(__file__).parent / "data" / "creditcard.csv"
SOURCE = "https://www.kaggle.com/datasets/mlg-ulb/creditcardfraud"

COMPONENTS = tuple(f"v{number}" for number in range(1, 29))
CSV_COLUMNS = ("Time", *(name.upper() for name in COMPONENTS), "Amount", "Class")
# The data set says September 2013 and two days, no more: the first payment is taken to be at this midnight.
START = datetime(2013, 9, 1, tzinfo=UTC)

SCHEMA = pa.schema(
    [
        ("transaction_id", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        *((name, pa.float64()) for name in COMPONENTS),
        ("amount", pa.float64()),
        ("is_fraud", pa.bool_()),
    ]
)


def read_creditcard(path: Path = CREDITCARD_FILE) -> pa.Table:
    """Read a file of that shape, as the platform's events.

    Parameters
    ----------
    path
        A CSV file with exactly the columns Time, V1 to V28, Amount and Class, in any order.

    Returns
    -------
    pyarrow.Table
        One row a payment, by `SCHEMA`, in time order; payments of one second keep the file's order.
        `transaction_id` is the row number in the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message says where it comes from.
    ValueError
        If columns are missing or unknown, or a value is not what its column holds.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; download creditcard.csv from {SOURCE} and put it there"
        )
    table = _parse(path)
    for name in CSV_COLUMNS:
        _check(path, name, table[name])
    seconds = table["Time"].to_numpy()
    start_us = round(START.timestamp()) * 1_000_000
    columns = {
        "transaction_id": pa.array(np.arange(table.num_rows)),
        "timestamp": pa.array(start_us + np.rint(seconds * 1_000_000).astype(np.int64)),
        **{name: table[name.upper()] for name in COMPONENTS},
        "amount": table["Amount"],
        "is_fraud": pc.equal(table["Class"], 1.0),
    }
    events = pa.table({field.name: columns[field.name].cast(field.type) for field in SCHEMA}, schema=SCHEMA)
    return events.take(np.argsort(seconds, kind="stable"))


def _parse(path: Path) -> pa.Table:
    # All columns are read as float64: the file writes Class in quotes and Time with and without a fraction.
    types = csv.ConvertOptions(column_types=dict.fromkeys(CSV_COLUMNS, pa.float64()))
    try:
        table = csv.read_csv(path, convert_options=types)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}; allowed is a number in every column, as in {SOURCE}") from error
    missing = [name for name in CSV_COLUMNS if name not in table.column_names]
    unknown = [name for name in table.column_names if name not in CSV_COLUMNS]
    if missing or unknown or len(table.column_names) != len(CSV_COLUMNS):
        _refuse(
            path,
            f"columns {table.column_names} (missing: {missing}, unknown: {unknown})",
            "Time, V1 to V28, Amount, Class",
        )
    return table


def _check(path: Path, name: str, column: pa.ChunkedArray) -> None:
    values = column.to_numpy()
    allowed, right = "a finite number", np.isfinite(values)
    if name in {"Time", "Amount"}:
        allowed, right = "a finite number, not negative", right & (values >= 0)
    if name == "Class":
        allowed, right = "0 or 1", np.isin(values, (0, 1))
    if not right.all():
        row = int(np.argmin(right))
        _refuse(path, f"{name} is {column[row].as_py()} in data row {row + 1}", allowed)


def _refuse(path: Path, found: str, allowed: str) -> NoReturn:
    raise ValueError(f"{path}: {found}; allowed: {allowed}. Take the file as it is at {SOURCE}")
