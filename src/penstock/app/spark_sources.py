"""What a Spark stream reads: folders in which Parquet files appear, and topics of Kafka.

Each row has ``_source``, where it stands (``_file``: a file, or a partition of a topic; ``_index``: which row of it), and a struct of its columns that is named
after the source. A message that breaks its source's contract has ``_refused`` and ``_original`` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import InputError
from penstock.engine import spark_tasks
from penstock.engine.frames import arrow_type
from penstock.engine.spark import spark_schema
from penstock.plan.nodes import SourceNode

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

KAFKA = "kafka://"
CONNECTOR = "spark-sql-kafka-0-10"


@dataclass(frozen=True)
class Topic:
    """A topic of Kafka, written ``kafka://HOST:PORT[,HOST:PORT]/TOPIC``.

    >>> Topic.parse("kafka://127.0.0.1:9092/payments")
    Topic(servers='127.0.0.1:9092', name='payments')
    """

    servers: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Topic:
        """The topic of an address; raises `InputError` where it is none."""
        servers, _, name = text.removeprefix(KAFKA).partition("/")
        if not servers or not name or "/" in name:
            raise InputError(f"Kafka: {text!r} found; allowed is {KAFKA}HOST:PORT/TOPIC. Name the topic.")
        return cls(servers, name)


def arriving(
    spark: SparkSession, source: SourceNode, place: str, *, files: int | None, messages: int | None
) -> DataFrame:
    """The rows of `source` as they appear at `place`: at most so many files, or messages, in a micro-batch."""
    if place.startswith(KAFKA):
        return _messages(spark, source, Topic.parse(place), messages)
    return _files(spark, source, place, files)


def _files(spark: SparkSession, source: SourceNode, folder: str, files: int | None) -> DataFrame:
    from pyspark.sql import functions as sf

    if not any(Path(folder).glob("*.parquet")):
        raise InputError(
            f"source {source.name!r}: {folder} has no Parquet file yet, which would say what its columns are. Put one in, even "
            "without rows."
        )
    schema = spark.read.parquet(folder).schema
    reader = spark.readStream.schema(schema)
    if files is not None:
        reader = reader.option("maxFilesPerTrigger", files)
    return reader.parquet(folder).select(
        sf.lit(source.name).alias("_source"),
        sf.col("_metadata.file_path").alias("_file"),
        sf.col("_metadata.row_index").alias("_index"),
        sf.lit(None).cast("string").alias("_refused"),
        sf.lit(None).cast("binary").alias("_original"),
        sf.struct(*schema.names).alias(source.name),
    )


def _messages(spark: SparkSession, source: SourceNode, topic: Topic, messages: int | None) -> DataFrame:
    import pyarrow as pa
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as sf

    reader = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", topic.servers)
        .option("subscribe", topic.name)
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "true")
    )
    if messages is not None:
        reader = reader.option("maxOffsetsPerTrigger", messages)
    try:
        raw = reader.load()
    except AnalysisException as error:
        raise InputError(
            f"source {source.name!r}: Spark cannot read Kafka ({error}). Give it the connector of its own version: --packages "
            f"org.apache.spark:{CONNECTOR}_2.13:{spark.version} in PYSPARK_SUBMIT_ARGS, or spark.jars.packages."
        ) from error
    partition = sf.format_string("%s-%06d", "topic", "partition").alias("_file")
    row = pa.struct([(f.name, arrow_type(f.dtype)) for f in source.fields])
    schema = pa.schema(
        [
            ("_source", pa.string()),
            ("_file", pa.string()),
            ("_index", pa.int64()),
            ("_refused", pa.string()),
            ("_original", pa.binary()),
            (source.name, row),
        ]
    )
    task = partial(spark_tasks.decode_messages, source)
    return raw.select(partition, sf.col("offset").alias("_index"), "value").mapInArrow(
        task, spark_schema(schema)
    )
