"""Where a Spark stream writes: a Delta table, a topic of Kafka, and the dead letters.

1. The executors write the vectors of a micro-batch as Parquet files, and keep the kernel's state; what may not be is refused here.
2. They send what they wrote to the topic, each place once (`penstock.app.spark_topic`).
3. The driver commits the files to the Delta table, with the micro-batch's number.

A micro-batch that is in the Delta table is done; each of the steps may be repeated until then.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from penstock.app.spark_topic import TopicSink

_APP = "penstock-spark"


class DeadLetters:
    """A folder with what was refused: where it stood, the reason and the bytes, a folder a micro-batch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, arrived: DataFrame, batch: int) -> None:
        """Keep what of a micro-batch was refused; of one that is repeated once."""
        refused = arrived.where("_refused IS NOT NULL")
        letters = refused.selectExpr(
            "_source AS source",
            "_file AS place",
            "_index AS number",
            "_refused AS reason",
            "_original AS original",
        )
        letters.write.mode("overwrite").parquet(str(self._folder / f"batch-{batch:012d}"))


class DeltaSink:
    """Appends the files of micro-batches to the Delta table in `folder`; a micro-batch that is repeated is there once.

    The files lie on storage that driver and executors share. Delta's log names the newest micro-batch, so that a reader sees
    each of them whole or not at all.

    Raises
    ------
    MissingDependencyError
        deltalake is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import deltalake  # noqa: F401 - so that it fails before anything is computed
        except ImportError as error:
            raise MissingDependencyError(
                "Delta sink: deltalake is not installed. Run: pip install 'penstock[delta]'."
            ) from error
        self._folder = folder

    @property
    def folder(self) -> Path:
        """The table's folder."""
        return self._folder

    @property
    def newest(self) -> int:
        """The newest micro-batch in the table; -1 where it is empty."""
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(str(self._folder)):
            return -1
        version = DeltaTable(str(self._folder)).transaction_version(_APP)
        return -1 if version is None else version

    def commit(self, place: Path, batch: int) -> None:
        """Append the Parquet files in `place`, a folder of the table's, as micro-batch `batch`, which must not be there."""
        import pyarrow as pa
        from deltalake import CommitProperties, DeltaTable, Transaction
        from deltalake.transaction import AddAction, RemoveAction
        from pyarrow.parquet import read_metadata

        files = sorted(place.glob("*.parquet"))
        facts = {file: read_metadata(file) for file in files}
        schema = next(iter(facts.values())).schema.to_arrow_schema().remove_metadata()
        adds: list[AddAction | RemoveAction] = [
            AddAction(
                str(file.relative_to(self._folder)),
                file.stat().st_size,
                {},
                int(file.stat().st_mtime * 1000),
                True,
                json.dumps({"numRecords": meta.num_rows}),
            )
            for file, meta in facts.items()
            if meta.num_rows
        ]
        schema = pa.schema([field.with_nullable(True) for field in schema])
        if not DeltaTable.is_deltatable(str(self._folder)):
            DeltaTable.create(str(self._folder), schema=schema)
        once = CommitProperties(app_transactions=[Transaction(_APP, batch)])
        DeltaTable(str(self._folder)).create_write_transaction(
            adds, mode="append", schema=schema, commit_properties=once
        )


@dataclass(frozen=True, eq=False)
class Sinks:
    """Where the vectors of a stream go: a table, a topic or both.

    `folder` is where the files of micro-batches lie: the table's, or one from which they are removed when they are sent.
    """

    delta: DeltaSink | None
    topic: TopicSink | None
    folder: Path

    @property
    def newest(self) -> int:
        """The newest micro-batch that is done, as far as is known; -1 where none is."""
        return -1 if self.delta is None else self.delta.newest

    def append(self, frame: DataFrame, batch: int, *, check: Callable[[], None]) -> None:
        """Compute the rows of `frame`, check them, and have them in every sink as micro-batch `batch`."""
        place = self.folder / f"batch-{batch:012d}"
        frame.write.mode("overwrite").parquet(str(place))
        check()
        if self.topic is not None:
            self.topic.send(frame.sparkSession, place, batch)
        if self.delta is not None:
            self.delta.commit(place, batch)
        else:
            shutil.rmtree(place)


def sinks_of(delta: DeltaSink | None, topic: TopicSink | None, checkpoint: Path) -> Sinks:
    """Where the vectors of the stream with this checkpoint go; raises `InputError` where that is nowhere."""
    if delta is None and topic is None:
        raise InputError("stream: it has nowhere to write; allowed are a table, a topic and both. Name one.")
    return Sinks(delta, topic, checkpoint.resolve() / "vectors" if delta is None else delta.folder)
