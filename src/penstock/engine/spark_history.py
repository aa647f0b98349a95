"""Histories as Spark frames: rows of one event found together, labels brought to their events, as `features_for_frame` does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError
from penstock.core.types import Field
from penstock.engine import spark_tasks
from penstock.engine.frames import arrow_type
from penstock.engine.spark import spark_schema
from penstock.plan.nodes import SourceNode

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True, eq=False)
class History:
    """The events of a stream, each once.

    Attributes
    ----------
    rows
        ``_row``, the stream's columns, and ``_to`` where a row came several times: all the rows that it answers for.
    ids
        ``_row`` and ``_id`` of each event; None where the stream has no ids.
    """

    rows: DataFrame
    ids: DataFrame | None


def history(source: SourceNode, rows: DataFrame, *, owner: str) -> History:
    """Each event of `rows` once; raises `InputError` where one id has two contents."""
    if source.id_field is None:
        return History(rows, None)
    ids = ids_of(source, rows, owner=owner)
    again = _repeated(ids)
    if again.isEmpty():
        return History(rows, ids)
    return _deduplicated(source, rows, ids, again, owner=owner)


def ids_of(source: SourceNode, rows: DataFrame, *, owner: str) -> DataFrame:
    """``_row`` and ``_id`` of all rows."""
    return with_ids(source, rows.select("_row", str(source.id_field)), owner=owner).select("_row", "_id")


def with_ids(source: SourceNode, rows: DataFrame, *, owner: str) -> DataFrame:
    """The rows with the column ``_id``."""
    from pyspark.sql.types import BinaryType, StructField, StructType

    (field,) = (f for f in source.fields if f.name == source.id_field)
    schema = StructType([*rows.schema.fields, StructField("_id", BinaryType())])
    return rows.mapInArrow(partial(spark_tasks.add_ids, field, owner), schema)


def _repeated(ids: DataFrame) -> DataFrame:
    """``_id`` and the ``first`` row of events that came more than once."""
    from pyspark.sql import functions as sf

    counted = ids.groupBy("_id").agg(sf.min("_row").alias("first"), sf.count("_row").alias("rows"))
    return counted.where("rows > 1").select("_id", "first")


def _deduplicated(
    source: SourceNode, rows: DataFrame, ids: DataFrame, again: DataFrame, *, owner: str
) -> History:
    from pyspark.sql import functions as sf

    repeated = ids.join(again, "_id")
    _check_same(source, rows, repeated, owner=owner)
    copies = repeated.where("_row <> first").select("_row")
    to = (
        repeated.groupBy("first").agg(sf.collect_list("_row").alias("_to")).withColumnRenamed("first", "_row")
    )
    kept = rows.join(copies, "_row", "left_anti").join(to, "_row", "left")
    return History(kept, ids.join(copies, "_row", "left_anti"))


def _check_same(source: SourceNode, rows: DataFrame, repeated: DataFrame, *, owner: str) -> None:
    from pyspark.sql import functions as sf

    believed = _believed(rows.join(repeated.select("_row", "_id"), "_row"), source.fields, owner=owner)
    first = believed.select(
        sf.col("_row").alias("first"), sf.struct(*(f.name for f in source.fields)).alias("then")
    )
    now = believed.join(repeated.select("_row", "first"), "_row").where("_row <> first")
    now = now.select("_row", "first", sf.struct(*(f.name for f in source.fields)).alias("now"))
    differing = now.join(first, "first").where("NOT (now <=> then)").orderBy("_row").limit(1).collect()
    if differing:
        raise InputError(
            f"{owner}: row {differing[0]['_row']} has the id of row {differing[0]['first']} and other values; allowed is the "
            "same event again. Keep one of them, or give the correction an id of its own."
        )


def _believed(rows: DataFrame, fields: tuple[Field, ...], *, owner: str) -> DataFrame:
    """``_row``, ``_id`` and `fields` as the contract takes them."""
    import pyarrow as pa

    schema = pa.schema(
        [("_row", pa.int64()), ("_id", pa.binary()), *((f.name, arrow_type(f.dtype)) for f in fields)]
    )
    task = partial(spark_tasks.believe, fields, owner)
    there = [f.name for f in fields if f.name in rows.columns]
    return rows.select("_row", "_id", *there).mapInArrow(task, spark_schema(schema))


def labelled(stream: SourceNode, events: History, label: SourceNode, labels: DataFrame) -> DataFrame:
    """The rows of label views: of each event the label that was known first, with the event's columns."""
    from pyspark.sql import functions as sf

    owner = f"history of {label.name!r}"
    known, value = label.time_field, str(label.label_field)
    believed = _believed(with_ids(label, labels, owner=owner), label.fields, owner=owner)
    first: Any = sf.min(sf.struct(known, "_row", value)).alias("first")
    firsts = believed.groupBy("_id").agg(first)
    of_event = [f.name for f in stream.fields if f.name not in {known, value}]
    there = [name for name in of_event if name in events.rows.columns]
    with_id = with_ids(stream, events.rows, owner=f"history of {stream.name!r}")
    joined = with_id.select("_id", *there).join(firsts, "_id")
    return joined.select(
        sf.col("first._row").alias("_row"), *there, sf.col(f"first.{value}"), sf.col(f"first.{known}")
    )


def found_by_id(stream: SourceNode, events: History, asked: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Rows of `asked`, which have the stream's id: the history with the rows that each event answers for, and which those are."""
    from pyspark.sql import functions as sf

    wanted = ids_of(stream, asked, owner="events")
    assert events.ids is not None, "a stream with an id field has ids"
    to = wanted.groupBy("_id").agg(sf.collect_list("_row").alias("_to"))
    matched = events.ids.join(to, "_id").select("_row", "_to")
    nobody = sf.array().cast("array<bigint>")
    rows = events.rows.drop("_to").join(matched, "_row", "left").withColumn("_to", sf.coalesce("_to", nobody))
    return rows, wanted.join(events.ids.select("_id"), "_id", "left_semi").select("_row")
