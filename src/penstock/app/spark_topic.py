"""A topic of Kafka as a sink of a Spark stream: the executors send what they wrote, each place in transactions of its own.

Sent is what lies as Parquet files already, behind all checks, so a topic never has what is not in the Delta table in the end. A place is a writer of
`penstock.connectors.kafka_once`, a micro-batch one of its steps. Spark repeats a micro-batch with the same rows and the kernel with the same bits, so a place
that has sent it before the crash has nothing to do, and one that has not sends it whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from penstock.app.kafka_inputs import client_settings
from penstock.app.settings import load_settings
from penstock.app.spark_sources import Topic
from penstock.app.vector_messages import vector_message
from penstock.connectors.kafka_once import Keyed, Marks, OnceProducer
from penstock.core.errors import InputError, StoreError
from penstock.core.time import from_us
from penstock.core.types import ArrayType, DataType, Field
from penstock.definitions.kafka_configs import KafkaConfig
from penstock.engine.answers import event_ids, flag_names
from penstock.engine.decisions import Flag
from penstock.engine.frames import arrow_column, believed_columns
from penstock.engine.spark_tasks import Batches, Recipe, cooked
from penstock.engine.values import as_float
from penstock.kernel.columns import Numeric, Text
from penstock.plan.nodes import ServiceNode, SourceNode
from penstock.stores.directories import sync_directory

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from penstock.definitions.project import Project

_ROWS = 8192
"""Rows of a file that are made into messages at once."""
_FLAGS = {1: Flag.LATE, 2: Flag.TOO_LATE}


@dataclass(frozen=True)
class TopicSink:
    """Sends the vectors of a stream to `topic`.

    Attributes
    ----------
    settings
        Of librdkafka.
    topic
        Where to; it exists.
    recipe
        Makes the plan in the workers.
    parts
        How many places there are.
    checkpoint
        Spark's folder and, in ``sent.json``, which micro-batch was begun.
    """

    settings: tuple[tuple[str, str], ...]
    topic: str
    recipe: Recipe
    parts: int
    checkpoint: Path

    def check(self) -> None:
        """Raise unless the topic can be written, before anything is computed."""
        kept = self._kept()
        if kept is not None and kept["topic"] != self.topic:
            raise InputError(
                f"stream: its vectors go to the topic {kept['topic']!r}, {self.topic!r} found; allowed is the one that its checkpoint began "
                f"with. Name that one, or remove {self._path} to go on with another, which gets what comes from now on."
            )
        self._marks()

    def send(self, spark: SparkSession, place: Path, batch: int) -> None:
        """Send the files of micro-batch `batch`, which lie in `place`, unless they were sent.

        Raises
        ------
        StoreError
            The topic is ahead of the checkpoint.
        """
        written = [int(file.name.split("-")[1]) for file in place.glob("part-*.parquet")]
        assert max(written, default=0) < self.parts, "a place writes one file, which has its number"
        self._begin(batch)
        task = partial(send_place, self, str(place), batch)
        places = spark.range(self.parts, numPartitions=self.parts)
        places.mapInArrow(task, "place bigint, sent bigint").collect()  # a row a place

    def writer(self, place: int) -> str:
        """By which name a place writes, as long as the checkpoint lives."""
        query = json.loads((self.checkpoint / "spark" / "metadata").read_text(encoding="utf-8"))["id"]
        return f"penstock-spark-{query}-{place:06d}"

    def _begin(self, batch: int) -> None:
        """Note that `batch` is begun, and give every place its mark, unless that was done before a crash."""
        kept = self._kept()
        if kept is not None and kept["begun"] == batch:
            return
        marks, writers = self._marks(), [self.writer(place) for place in range(self.parts)]
        found = marks.of(writers)
        ahead = [mark.step for mark in found if mark is not None and mark.step > batch]
        if ahead:
            raise StoreError(
                f"stream: the topic {self.topic!r} has micro-batches up to {max(ahead) - 1} of this stream, and its checkpoint comes to {batch}; "
                "allowed is the newest state of the checkpoint. Restore that, or begin anew with another checkpoint and another topic."
            )
        new = [name for name, mark in zip(writers, found, strict=True) if mark is None or mark.step < batch]
        marks.begin(new, batch)
        self._keep(batch)

    def _marks(self) -> Marks:
        return Marks(dict(self.settings), self.topic)

    @property
    def _path(self) -> Path:
        return self.checkpoint / "sent.json"

    def _kept(self) -> dict[str, Any] | None:
        if not self._path.is_file():
            return None
        found: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        return found

    def _keep(self, batch: int) -> None:
        aside = self._path.with_suffix(".part")
        with aside.open("w", encoding="utf-8") as file:
            json.dump({"topic": self.topic, "begun": batch}, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)
        sync_directory(self._path.parent)


def topic_sink(project: Project, recipe: Recipe, address: str, *, parts: int, checkpoint: Path) -> TopicSink:
    """The topic at `address`, ``kafka://HOST:PORT/TOPIC``, as the sink of a stream.

    Raises
    ------
    InputError
        The events have no ids; there is no such topic; or the checkpoint began with another one.
    UnreachableError
        No broker answers.
    """
    plan = cooked(recipe)
    source = plan.plan.sources[plan.services[0].source]
    if source.id_field is None:
        raise InputError(
            f"source {source.name!r}: it has no event_id_field, and in a topic a vector lies under its event's id. Name the field, "
            "or write to a Delta table."
        )
    topic = Topic.parse(address)
    settings = client_settings(KafkaConfig(topic.servers, topic.name), load_settings(project.root).kafka)
    given = {**settings, "bootstrap.servers": topic.servers}
    sink = TopicSink(tuple(given.items()), topic.name, recipe, parts, checkpoint.resolve())
    sink.check()
    return sink


def send_place(sink: TopicSink, folder: str, batch: int, batches: Batches) -> Iterator[pa.RecordBatch]:
    """In a worker: send what the places that come in `batches` wrote; how many messages each sent."""
    for places in batches:
        for place in places.column("id").to_pylist():
            with OnceProducer(dict(sink.settings), sink.topic, sink.writer(place)) as producer:
                sent = producer.send(batch, messages_of(sink.recipe, Path(folder), place, batch))
            yield pa.record_batch({"place": pa.array([place]), "sent": pa.array([sent])})


def messages_of(recipe: Recipe, folder: Path, place: int, batch: int) -> Iterator[Keyed]:
    """The messages of what one place wrote, in its order: under the event's id, its place and micro-batch in the headers."""
    plan = cooked(recipe)
    service = plan.services[0]
    source = plan.plan.sources[service.source]
    headers = [("micro_batch", str(batch).encode()), ("place", str(place).encode())]
    for file in sorted(folder.glob(f"part-{place:05d}-*.parquet")):
        for rows in parquet.ParquetFile(file).iter_batches(_ROWS):
            yield from _messages(pa.Table.from_batches([rows]), source, service, headers)


def _messages(
    rows: pa.Table, source: SourceNode, service: ServiceNode, headers: list[tuple[str, bytes]]
) -> Iterator[Keyed]:
    fields = [field for field in source.fields if field.name in {source.id_field, source.time_field}]
    events = believed_columns(rows, fields, owner="vectors")
    times = events[source.time_field].values.tolist()  # type: ignore[union-attr]
    ids = event_ids(events, source, ())
    flags = [
        flag_names(int(_FLAGS.get(late, Flag(0)) | (Flag.DEGRADED if degraded else Flag(0))))
        for late, degraded in zip(
            rows.column("_lateness").to_pylist(), rows.column("_degraded").to_pylist(), strict=True
        )
    ]
    columns = [_values(rows.column(one.name.replace(".", "__")), one.dtype) for one in service.outputs]
    vectors = zip(*columns, strict=True)
    for identity, time_us, flagged, vector in zip(ids, times, flags, vectors, strict=True):
        said = {"event_id": identity, "time": from_us(time_us).isoformat(), "flags": flagged}
        value = vector_message(said, service.fingerprint, service.feature_names, vector)
        yield Keyed(identity.encode(), value, headers)


def _values(column: pa.ChunkedArray, dtype: DataType) -> list[Any]:
    """Values as a decision's vector has them; texts and lists, which it cannot have, as such."""
    if isinstance(dtype, ArrayType):
        whole = pa.concat_arrays(column.chunks)
        flat = _values(pa.chunked_array([whole.flatten()]), dtype.elem)
        ends = np.cumsum(whole.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)).tolist()
        return [flat[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    found = arrow_column(column, Field("value", dtype), owner="vectors")
    if isinstance(found, Text):
        return list(found.to_strings())
    assert isinstance(found, Numeric)
    values: list[Any] = as_float(found).tolist()
    return values
