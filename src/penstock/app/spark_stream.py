"""Spark Structured Streaming: streams of a project in, feature vectors out, with the kernel's state in the checkpoint.

A micro-batch goes through the same steps as a backfill (`penstock.engine.spark`), in the order of arrival, from the state that the micro-batch
before it left (`penstock.app.spark_state`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.app.runtime import stream_of
from penstock.app.spark_sinks import DeadLetters, DeltaSink, Sinks, sinks_of
from penstock.app.spark_sources import arriving
from penstock.app.spark_state import Checkpoint, answer_stream
from penstock.app.spark_topic import topic_sink
from penstock.core.errors import InputError, NotFoundError, PlanError
from penstock.definitions.project import load_project
from penstock.engine.shards import ShardedPlan, shard_plan
from penstock.plan.compile import compile_plan

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from penstock.definitions.project import Project
    from penstock.plan.nodes import Plan

_FILE_ROWS = 40
"""Bits for the number of a row in its file."""


@dataclass(frozen=True)
class StreamPlan:
    """A service's plan for a stream, made from the project's folder, which every worker must find at the same path."""

    root: str
    service: str
    fingerprint: str

    def __call__(self) -> ShardedPlan:
        """The plan, cut by key; raises `PlanError` where this machine has other definitions."""
        plan = service_plan(load_project(self.root), self.service)
        if plan.fingerprint != self.fingerprint:
            raise PlanError(
                f"Spark worker: {self.root} holds other definitions than the driver's; allowed are the same. Bring the "
                "folders to the same state."
            )
        return shard_plan(plan, [plan.services[self.service]])


def service_plan(project: Project, service: str) -> Plan:
    """The plan of one service for the events of its stream."""
    chosen = project.services.get(service)
    if chosen is None:
        raise NotFoundError(
            f"feature service {service!r} does not exist; there are {', '.join(project.services)}."
        )
    return compile_plan([(chosen, stream_of(project, chosen))])


@dataclass(frozen=True, eq=False)
class SparkStream:
    """A stream that runs."""

    query: StreamingQuery

    def wait(self) -> None:
        """Wait until it has ended; raises what ended it, if something did."""
        self.query.awaitTermination()

    def stop(self) -> None:
        """End it."""
        self.query.stop()


def start_stream(
    spark: SparkSession,
    project: Project,
    service: str,
    *,
    places: Mapping[str, str],
    checkpoint: Path,
    out: Path | None = None,
    topic: str | None = None,
    follow: bool = False,
    parts: int | None = None,
    files_a_batch: int | None = None,
    messages_a_batch: int | None = None,
) -> SparkStream:
    """Begin to write the features of `service` to a Delta table, a topic of Kafka or both, as its stream's rows arrive.

    Parameters
    ----------
    places
        By source the folder in which its Parquet files appear, each whole (written elsewhere and moved in), or ``kafka://HOST:PORT/TOPIC`` with
        JSON messages.
    checkpoint
        Where Spark and the kernel keep how far they are. It belongs to these definitions, and to where the vectors go. Messages that break their
        contract lie in its ``dead_letters``.
    out
        The table's folder.
    topic
        ``kafka://HOST:PORT/TOPIC``, which exists. Each vector is there once for readers with ``isolation.level=read_committed``. Brokers are
        reached with ``[kafka] options`` of the project's settings.
    follow
        Whether to wait for more files; else it ends behind those that are there.
    parts
        How many places there are for keys, as long as the checkpoint lives; default: Spark's parallelism.
    files_a_batch, messages_a_batch
        At most so many files or messages of a source in a micro-batch; default: all.
    """
    plan = service_plan(project, service)
    _check(plan, service, places)
    recipe = StreamPlan(str(project.root), service, plan.fingerprint)
    delta = None if out is None else DeltaSink(out)
    if delta is not None and delta.newest >= 0 and not (checkpoint / "parts").is_file():
        raise InputError(
            f"stream: the table {out} was written by a stream whose checkpoint is not {checkpoint}; allowed are the two that began "
            "together. Restore that checkpoint, or name another table."
        )
    places_for_keys = _parts(checkpoint, parts or spark.sparkContext.defaultParallelism)
    sender = (
        None
        if topic is None
        else topic_sink(project, recipe, topic, parts=places_for_keys, checkpoint=checkpoint)
    )
    sinks = sinks_of(delta, sender, checkpoint)
    readers = [
        arriving(spark, plan.sources[name], place, files=files_a_batch, messages=messages_a_batch)
        for name, place in places.items()
    ]
    whole = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), readers)
    work = _MicroBatch(
        recipe,
        plan,
        service,
        tuple(places),
        sinks,
        DeadLetters(checkpoint.resolve() / "dead_letters"),
        str(checkpoint.resolve() / "kernel"),
        places_for_keys,
    )
    writer = whole.writeStream.foreachBatch(work.process).option(
        "checkpointLocation", str(checkpoint / "spark")
    )
    if not follow:
        writer = writer.trigger(availableNow=True)
    return SparkStream(writer.start())


def _parts(checkpoint: Path, wanted: int) -> int:
    """How many places the checkpoint was begun with."""
    kept = checkpoint / "parts"
    if not kept.is_file():
        checkpoint.mkdir(parents=True, exist_ok=True)
        kept.write_text(f"{wanted}\n", encoding="ascii")
    return int(kept.read_text(encoding="ascii"))


def _check(plan: Plan, service: str, places: Mapping[str, str]) -> None:
    node = plan.services[service]
    labels = [name for name, source in plan.sources.items() if source.label_of is not None]
    if labels and any(view.source in labels for view in plan.views):
        raise InputError(
            f"service {service!r}: it has features of the labels {labels[0]!r}, which join events of long ago in the log; "
            "allowed in a Spark stream are features of streams and tables. Use --engine local, or a service without them."
        )
    needed = {node.source, *(view.source for view in plan.views)}
    if needed != set(places):
        raise InputError(
            f"service {service!r}: it takes {', '.join(sorted(needed))}; given are {', '.join(sorted(places)) or 'none'}. Name "
            "a folder or topic for each: SOURCE=FOLDER."
        )


@dataclass(frozen=True, eq=False)
class _MicroBatch:
    """What is done with each micro-batch."""

    recipe: StreamPlan
    plan: Plan
    service: str
    sources: tuple[str, ...]
    sinks: Sinks
    dead_letters: DeadLetters
    states: str
    parts: int

    def process(self, arrived: DataFrame, batch: int) -> None:
        """Compute and append the features of a micro-batch."""
        from pyspark.sql import functions as sf

        from penstock.engine.spark import Asked, compute

        if self.sinks.newest >= batch:
            return  # it was committed, and so was its state before that; only Spark does not know
        files = self._files(arrived.persist(), batch)
        rows = self._placed(arrived.where("_refused IS NULL"), files)
        try:
            sources = {
                name: rows.where(sf.col("_source") == name).select("_row", "_time", f"{name}.*")
                for name in self.sources
            }
            asking = self.plan.services[self.service].source
            events = rows.where(sf.col("_source") == asking)
            asked = Asked(events.select("_row", sf.col(asking).alias("event"), sf.lit(0).alias("service")), 0)
            answer: Callable[..., object] = partial(
                answer_stream, self.recipe, Checkpoint(self.states, batch), self.parts
            )
            features = compute(
                self.recipe,
                sources,
                asked,
                parts=self.parts,
                by_time=False,
                flags=True,
                answer=answer,  # type: ignore[arg-type]
            )
            self.sinks.append(features.frame, batch, check=features.check)
        finally:
            arrived.unpersist()

    def _files(self, arrived: DataFrame, batch: int) -> list[str]:
        """The files and partitions of a micro-batch; what was refused of them is kept."""
        from pyspark.sql import functions as sf

        counted = arrived.groupBy("_file").agg(sf.count("_refused").alias("refused")).collect()
        if any(row["refused"] for row in counted):
            self.dead_letters.keep(arrived, batch)
        return sorted(row["_file"] for row in counted)

    def _placed(self, arrived: DataFrame, files: list[str]) -> DataFrame:
        """The rows in the order in which the log of one machine would have them: each file in its own, several by event time."""
        from pyspark.sql import Window
        from pyspark.sql import functions as sf

        if len(files) <= 1:
            return arrived.withColumns({"_row": sf.col("_index"), "_time": sf.lit(0).cast("bigint")})
        number = sf.array_position(sf.array(*map(sf.lit, files)), sf.col("_file")) - 1
        times = sf.coalesce(*map(self._time, self.sources))
        # The running maximum keeps each file's own order, whatever its times.
        so_far = Window.partitionBy("_file").orderBy("_index").rowsBetween(Window.unboundedPreceding, 0)
        row = sf.shiftleft(number, _FILE_ROWS) + sf.col("_index")
        return arrived.withColumns({"_row": row, "_time": sf.max(times).over(so_far)})

    def _time(self, source: str) -> Column:
        """When a row of `source` counts, in microseconds; null for rows of others."""
        from pyspark.sql import functions as sf

        node = self.plan.sources[source]
        return sf.unix_micros(sf.col(f"{source}.{node.time_field}").cast("timestamp")) + node.data_delay_us
