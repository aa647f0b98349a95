"""Writing Arrow tables as Parquet: in bounded memory, whole or not at all, the same bytes however they were cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS = 1 << 17


def write_parquet(tables: Iterable[pa.Table], path: Path, *, schema: pa.Schema) -> int:
    """Write the rows of `tables` to `path`, making its folder; how many they were.

    The file appears when it is complete. Rows are written in groups of `GROUP_ROWS`, so that its bytes depend on the
    rows alone.
    """
    from pyarrow.parquet import ParquetWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    rows = 0
    try:
        with ParquetWriter(aside, schema) as writer:
            for table in regrouped(tables, GROUP_ROWS):
                writer.write_table(table, row_group_size=GROUP_ROWS)
                rows += table.num_rows
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return rows


def regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows of `tables` in tables of exactly `rows` rows, each in one chunk; the last may be shorter.

    >>> import pyarrow as pa
    >>> parts = [pa.table({"x": [1, 2, 3]}), pa.table({"x": [4, 5]})]
    >>> [part.column("x").to_pylist() for part in regrouped(parts, 2)]
    [[1, 2], [3, 4], [5]]
    """
    import pyarrow as pa

    gathered: list[pa.Table] = []
    count = 0
    for table in tables:
        start = 0
        while count + table.num_rows - start >= rows:
            piece = table.slice(start, rows - count)
            yield pa.concat_tables([*gathered, piece]).combine_chunks()
            start, gathered, count = start + piece.num_rows, [], 0
        if start < table.num_rows:
            gathered.append(table.slice(start))
            count += gathered[-1].num_rows
    if gathered:
        yield pa.concat_tables(gathered).combine_chunks()
