"""Files as Spark frames whose rows are numbered as they stand: Parquet files and folders of them, and Delta tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from penstock.core.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession


def read_numbered(spark: SparkSession, path: str, *, owner: str) -> tuple[DataFrame, int]:
    """The rows of `path` with their number in the column ``_row``, and how many they are.

    Rows are numbered file after file in the order of the files' names, and within a file as they stand.
    """
    from pyspark.sql import functions as sf

    files = sorted(_files(path, owner=owner))
    frame = spark.read.parquet(*files)
    if "_row" in frame.columns:
        raise InputError(
            f"{owner}: column '_row' found; its name is needed for the rows' numbers. Rename it."
        )
    counted = frame.groupBy(_file().alias("file")).agg((sf.max("_metadata.row_index") + 1).alias("rows"))
    rows_of = {row["file"]: row["rows"] for row in counted.collect()}  # one row a file
    first, firsts = 0, {}
    for file in sorted(rows_of):
        firsts[file] = first
        first += rows_of[file]
    if len(firsts) <= 1:
        return frame.withColumn("_row", sf.col("_metadata.row_index")), first
    known = sf.broadcast(spark.createDataFrame(list(firsts.items()), "file string, first bigint"))
    whole = frame.withColumn("_row", sf.col("_metadata.row_index")).withColumn("file", _file())
    joined = whole.join(known, "file")
    return joined.withColumn("_row", sf.col("_row") + sf.col("first")).drop("file", "first"), first


def _file() -> Column:
    from pyspark.sql import functions as sf

    return sf.col("_metadata.file_path")


def _files(path: str, *, owner: str) -> list[str]:
    """What Spark is to read: the path itself, or the files of a Delta table's newest version."""
    folder = Path(path)
    if "://" not in path and not folder.exists():
        raise InputError(f"{owner}: there is nothing at {path}. Correct the path.")
    if (folder / "_delta_log").is_dir():
        return _delta_files(path, owner=owner)
    if folder.is_file() and folder.suffix != ".parquet":
        raise InputError(
            f"{owner}: {path} found; with --engine spark Parquet files, folders of them and Delta tables are allowed. Convert it, "
            "or use --engine local."
        )
    return [path]


def _delta_files(path: str, *, owner: str) -> list[str]:
    try:
        from deltalake import DeltaTable
    except ImportError as error:
        raise MissingDependencyError(
            f"{owner}: {path} is a Delta table, and deltalake is not installed. Run: pip install 'penstock[delta]'."
        ) from error
    table = DeltaTable(path)
    if table.metadata().partition_columns:
        raise InputError(
            f"{owner}: {path} is a Delta table with partition columns; allowed are tables without. Give its files to another "
            "table, or use --engine local."
        )
    return [unquote(uri) for uri in table.file_uris()]
