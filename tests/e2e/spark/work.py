"""What the Spark tests look at, made in one process with Spark: ``python tests/e2e/spark/work.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from penstock.app import spark_sinks
from penstock.app.spark import backfill, spark_session
from penstock.app.spark_stream import start_stream
from penstock.core.errors import InputError
from penstock.definitions.project import load_project

FOLDER = Path(__file__).parent


def backfills(folder: Path) -> None:
    spark, project = spark_session(), load_project(FOLDER)
    data = {name: str(folder / f"{name}.parquet") for name in ("logins", "chargebacks")}
    backfill(spark, project, "everything", events=str(folder / "payments"), history=data, out=folder / "own")
    given = {**data, "payments": str(folder / "payments")}
    backfill(
        spark,
        project,
        "everything",
        events=str(folder / "asked.parquet"),
        history=given,
        out=folder / "asked",
    )
    try:
        backfill(
            spark,
            project,
            "everything",
            events=str(folder / "conflict.parquet"),
            history=data,
            out=folder / "no",
        )
    except InputError as error:
        (folder / "conflict.txt").write_text(str(error), encoding="utf-8")


def stream(folder: Path) -> None:
    start_stream(
        spark_session(),
        load_project(FOLDER),
        "streamed",
        places={name: str(folder / "stream" / name) for name in ("payments", "logins")},
        out=folder / "vectors",
        checkpoint=folder / "checkpoint",
        files_a_batch=1,
        parts=2,
    ).wait()


def interrupted(folder: Path) -> None:
    """A stream, its second micro-batch computed but not committed; anew in other workers, its third committed and Spark not told; and again."""
    from pyspark.errors import StreamingQueryException

    commit = spark_sinks.DeltaSink.commit

    def fails(self: spark_sinks.DeltaSink, place: Path, batch: int) -> None:
        if batch == 1:
            raise OSError("the disk is away")
        commit(self, place, batch)

    def ends(self: spark_sinks.DeltaSink, place: Path, batch: int) -> None:
        commit(self, place, batch)
        if batch == 2:
            raise OSError("the machine is away")

    for broken in (fails, ends):
        spark_sinks.DeltaSink.commit = broken  # type: ignore[method-assign]
        try:
            stream(folder)
        except StreamingQueryException as error:
            (folder / f"{broken.__name__}.txt").write_text(str(error), encoding="utf-8")
        if broken is fails:
            spark_session().stop()
    spark_sinks.DeltaSink.commit = commit  # type: ignore[method-assign]
    for name in ("payments", "logins"):
        (folder / "later" / f"{name}.parquet").rename(folder / "stream" / name / "z.parquet")
    stream(folder)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    backfills(place)
    interrupted(place)
