"""Files of events or labels as Arrow tables, for training and backfill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.app.inputs import format_of
from penstock.core.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def read_table(path: Path, *, owner: str) -> pa.Table:
    """The table in a Parquet, CSV or NDJSON file; raises `InputError` where it cannot be read."""
    import pyarrow as pa
    from pyarrow import csv, json, parquet

    if not path.exists():
        raise InputError(f"{owner}: there is no file {path}. Correct the path.")
    readers = {"parquet": parquet.read_table, "csv": csv.read_csv, "ndjson": json.read_json}
    try:
        return readers[format_of(path)](path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{owner}: {path} cannot be read ({error}). Correct the file, or its name's ending."
        ) from error
