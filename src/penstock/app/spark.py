"""Features by Spark for a project: a session, the plan as workers make it, and the files that go in and come out."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.app.spark_files import read_numbered
from penstock.core.errors import InputError, MissingDependencyError, PlanError
from penstock.definitions.project import load_project
from penstock.engine.batch_history import asking_stream
from penstock.engine.shards import ShardedPlan, shard_plan
from penstock.engine.training_set import (
    HISTORY,
    SPINE,
    batch_sources_of,
    cannot_look_up,
    check_carries,
    driving_source,
    frame_plan,
    source_names,
)
from penstock.plan.compile import Demand, compile_demands

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from penstock.definitions.project import Project
    from penstock.definitions.sources import StreamSource
    from penstock.engine.spark import Asked, SparkFeatures
    from penstock.engine.spark_history import History
    from penstock.plan.nodes import Plan

ROWS_A_PART = 500_000
"""How many rows a place for keys gets, or so: their sort should fit into an executor's memory, and need not."""
_BATCH_ROWS = 1 << 16
_NO_LIMIT = 2**31 - 1


def spark_session() -> SparkSession:
    """The session there is, or one as Spark's own configuration says: by default all cores of this machine.

    Raises
    ------
    MissingDependencyError
        PySpark is not installed.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MissingDependencyError(
            "engine 'spark': PySpark is not installed. Run: pip install 'penstock[spark]'."
        ) from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("penstock").getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", _BATCH_ROWS)
    # With any limit in bytes Spark measures the whole batch anew for each of its rows.
    spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", _NO_LIMIT)
    return spark


@dataclass(frozen=True)
class ServicePlan:
    """A service's plan, made from the project's folder, which every worker must find at the same path.

    `columns` is the Arrow schema of the events, in bytes; `asks` names the services that are wanted; `fingerprint` is that of the driver's plan.
    """

    root: str
    service: str
    columns: bytes
    timestamp_key: str | None
    asks: tuple[str, ...] = ()
    fingerprint: str = ""

    def __call__(self) -> ShardedPlan:
        """The plan, cut by key; raises `PlanError` where this machine has other definitions."""
        if not Path(self.root).is_dir():
            raise PlanError(
                f"Spark worker: there is no folder {self.root}; the project must be at the same path on every machine. "
                "Put it on shared storage, or into the image of the executors."
            )
        plan = self.plan(load_project(self.root))
        if plan.fingerprint != self.fingerprint:
            raise PlanError(
                f"Spark worker: {self.root} holds other definitions than the driver's; allowed are the same. Bring the "
                "folders to the same state."
            )
        return shard_plan(plan, [plan.services[name] for name in self.asks])

    def plan(self, project: Project) -> Plan:
        """The plan, whole."""
        import pyarrow as pa

        references = project.services[self.service].features
        table = pa.ipc.read_schema(pa.py_buffer(self.columns)).empty_table()
        if source_names(references) == set(batch_sources_of(references)):
            source = asking_stream(references, table, SPINE, self.timestamp_key)
            return compile_demands([Demand(SPINE, references, source)])
        return frame_plan(references, driving_source(references), table, self.timestamp_key)


def backfill(
    spark: SparkSession,
    project: Project,
    service: str,
    *,
    events: str,
    history: Mapping[str, str],
    out: Path,
    timestamp_key: str | None = None,
) -> tuple[int, tuple[str, ...]]:
    """Write the features of `service` for a file of events as a folder of Parquet files; how many rows, and the features' names.

    `events` and `history`, by source, are Parquet files, folders of them, or Delta tables. Rows are written in the events' order. The folder
    appears when it is complete.

    Raises
    ------
    InputError
        As `features_for_frame`; and where `out` exists, or a view has more keys than its `max_keys`.
    """
    if out.exists():
        raise InputError(
            f"backfill: {out} exists; allowed is a new folder. Remove it, or name another with --out."
        )
    features, rows = features_of_files(
        spark, project, service, events=events, history=history, timestamp_key=timestamp_key
    )
    aside = out.with_name(out.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        features.frame.write.parquet(str(aside))
        features.check()
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    names = next(iter(features.plan.services.values())).feature_names
    return rows, tuple(name.replace(".", "__") for name in names)


def features_of_files(
    spark: SparkSession,
    project: Project,
    service: str,
    *,
    events: str,
    history: Mapping[str, str],
    timestamp_key: str | None = None,
) -> tuple[SparkFeatures, int]:
    """The features of `service` for a file of events, not computed yet, and how many events there are; see `backfill`."""
    from pyspark.sql.pandas.types import to_arrow_schema

    from penstock.engine.spark import compute

    references = project.services[service].features
    if unknown := set(history) - source_names(references):
        raise InputError(
            f"history: {min(unknown)!r} is no source of these features; they come from "
            f"{', '.join(sorted(source_names(references)))}. Leave it out."
        )
    frame, rows = read_numbered(spark, events, owner="events")
    total = rows
    given: dict[str, DataFrame] = {}
    for name, path in history.items():
        given[name], more = read_numbered(spark, path, owner=f"history of {name!r}")
        total += more
    schema = to_arrow_schema(frame.drop("_row").schema, timezone="UTC")
    recipe = ServicePlan(str(project.root), service, schema.serialize().to_pybytes(), timestamp_key)
    job = _Job(project, recipe, recipe.plan(project), frame, rows, given, schema)
    recipe, sources, asked = job.resolved()
    parts = max(spark.sparkContext.defaultParallelism, total // ROWS_A_PART + 1)
    return compute(recipe, sources, asked, parts=parts), rows


@dataclass(frozen=True, eq=False)
class _Job:
    """What a backfill is given, on the way to what Spark computes."""

    project: Project
    recipe: ServicePlan
    plan: Plan
    events: DataFrame
    rows: int
    given: Mapping[str, DataFrame]
    schema: pa.Schema

    def resolved(self) -> tuple[ServicePlan, dict[str, DataFrame], Asked]:
        """Whom the events ask, by which rows, and how the workers make the plan."""
        references = self.project.services[self.recipe.service].features
        batch = batch_sources_of(references)
        for name, source in batch.items():
            if name not in self.given:
                raise InputError(
                    f"history: features come from the batch source {name!r}, and there is no history of it. Give "
                    f"--history {name}=FILE with the columns {', '.join(f.name for f in source.schema)}."
                )
        sources = {name: self.given[name] for name in batch}
        if source_names(references) == set(batch):
            return self._asking([SPINE], {**sources, SPINE: self.events}, None)
        stream = driving_source(references)
        sources |= self._other_streams(stream)
        if stream.name in self.given:
            return self._with_history(stream, sources)
        check_carries(self.schema.empty_table(), stream)
        known = self._known(stream, self.events, "events")
        sources |= self._labels(stream, known) | {stream.name: known.rows}
        return self._asking([HISTORY], sources, None)

    def _with_history(
        self, stream: StreamSource, sources: dict[str, DataFrame]
    ) -> tuple[ServicePlan, dict[str, DataFrame], Asked]:
        """The events may or may not be in the history that is given."""
        from penstock.engine.spark_history import found_by_id

        known = self._known(stream, self.given[stream.name], f"history of {stream.name!r}")
        sources |= self._labels(stream, known) | {stream.name: known.rows}
        if stream.event_id_field is None or stream.event_id_field not in self.events.columns:
            self._check_can_look_up(self.events, stream)
            return self._asking([SPINE], {**sources, SPINE: self.events}, None)
        rows, found = found_by_id(self.plan.sources[stream.name], known, self.events)
        bare = self.events.join(found, "_row", "left_anti")
        sources[stream.name] = rows
        if SPINE not in self.plan.sources:
            self._check_can_look_up(bare, stream)
            return self._asking([HISTORY], sources, None)
        return self._asking([HISTORY, SPINE], {**sources, SPINE: bare}, found)

    def _other_streams(self, stream: StreamSource) -> dict[str, DataFrame]:
        """The histories of streams that the events look up."""
        from penstock.engine.spark_history import history

        others = {
            name: node
            for name, node in self.plan.sources.items()
            if name in self.given and name != stream.name and node.label_of is None and not node.is_batch
        }
        return {
            name: history(node, self.given[name], owner=f"history of {name!r}").rows
            for name, node in others.items()
        }

    def _known(self, stream: StreamSource, rows: DataFrame, owner: str) -> History:
        from penstock.engine.spark_history import history

        return history(self.plan.sources[stream.name], rows, owner=owner)

    def _labels(self, stream: StreamSource, known: History) -> dict[str, DataFrame]:
        from penstock.engine.spark_history import labelled

        made = {}
        for name, node in self.plan.sources.items():
            if node.label_of is None or not any(view.source == name for view in self.plan.views):
                continue
            if name not in self.given:
                raise InputError(
                    f"history: features come from the labels {name!r}, and there is no history of them. Give "
                    f"--history {name}=FILE with the columns {', '.join(f.name for f in node.fields)}."
                )
            made[name] = labelled(self.plan.sources[stream.name], known, node, self.given[name])
        return made

    def _check_can_look_up(self, bare: DataFrame, stream: StreamSource) -> None:
        if SPINE in self.plan.sources:
            return
        first = bare.select("_row").orderBy("_row").limit(1).collect()
        if first:
            raise InputError(cannot_look_up(first[0]["_row"], self.plan, self.schema.empty_table(), stream))

    def _asking(
        self, names: list[str], sources: dict[str, DataFrame], found: DataFrame | None
    ) -> tuple[ServicePlan, dict[str, DataFrame], Asked]:
        """The plan for services `names`; `found` are the rows that are told by the first of two."""
        from pyspark.sql import functions as sf

        from penstock.engine.spark import Asked

        columns = [name for name in self.events.columns if name != "_row"]
        frame = self.events.select("_row", sf.struct(*columns).alias("event"))
        service: Any = sf.lit(0)
        if found is not None:
            frame = frame.join(found.withColumn("found", sf.lit(0)), "_row", "left")
            service = sf.coalesce("found", sf.lit(1))
        asked = Asked(frame.select("_row", "event", service.alias("service")), self.rows)
        recipe = replace(self.recipe, asks=tuple(names), fingerprint=self.plan.fingerprint)
        return recipe, sources, asked
