"""Point-in-time features by Spark: the same kernel in the executors, for histories larger than one machine.

Two shuffles, whatever the number of entities (`penstock.engine.shards`):

1. every row is copied to the place of each key that it enters or asks; there the copies are put in order, spilling to disk where they must, and
   streamed through the kernel. A place holds many keys, and what the windows hold of them is all that is in memory;
2. what an event was told in each place comes together by its row number, with its own columns, in the order of the input.

Nothing is collected. The driver sees schemas, numbers of rows and numbers of keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

from penstock.core.errors import InputError
from penstock.engine import shard_rows, spark_tasks
from penstock.engine.frames import arrow_type
from penstock.engine.shard_rows import EVENT, KEYS
from penstock.engine.shards import check_keys
from penstock.engine.spark_tasks import Recipe, Task
from penstock.plan.nodes import Plan

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, Observation

ORDER = ("time", "rank", "row", "copy")


@dataclass(frozen=True, eq=False)
class Asked:
    """The events that features are for.

    Attributes
    ----------
    frame
        Their ``_row``; ``event``, a struct of their own columns; ``service``, which of the plan's services each is told.
    rows
        How many there are, numbered from 0, so that features come in their order; 0 where they are numbered otherwise.
    """

    frame: DataFrame
    rows: int


@dataclass(frozen=True, eq=False)
class SparkFeatures:
    """Events with their features, not computed yet: `frame` has them in the order of ``row``, file after file.

    `check` is to be called after it was written; it raises where a view held more keys than it may.
    """

    frame: DataFrame
    plan: Plan
    observation: Observation

    def check(self) -> None:
        """Raise `InputError` where one machine would have had to forget keys, so that its values would differ."""
        held = self.observation.get
        check_keys(self.plan, [int(held.get(f"view_{i}") or 0) for i in range(len(self.plan.views))])


def compute(
    recipe: Recipe,
    sources: Mapping[str, DataFrame],
    asked: Asked,
    *,
    parts: int,
    by_time: bool = True,
    flags: bool = False,
    answer: Task | None = None,
) -> SparkFeatures:
    """The features of `asked`.

    Parameters
    ----------
    recipe
        Makes the plan, here and in the workers.
    sources
        By source its rows: ``_row``, its columns and, where rows answer for other events than themselves, ``_to``.
    parts
        How many places there are for keys, and how many files are written.
    by_time
        See `Copier`.
    flags
        See `Gatherer`.
    answer
        What answers the copies of a place; default: `answer_copies`, from empty states.
    """
    task = answer or partial(spark_tasks.answer_copies, recipe, parts, asked.rows)
    pieces = answered(recipe, copied(recipe, sources, parts=parts, by_time=by_time), task)
    observed, observation = _observed(pieces, len(spark_tasks.cooked(recipe).plan.views))
    frame = gathered(recipe, observed, asked, outs=parts, flags=flags)
    return SparkFeatures(frame, spark_tasks.cooked(recipe).plan, observation)


def copied(recipe: Recipe, sources: Mapping[str, DataFrame], *, parts: int, by_time: bool) -> DataFrame:
    """Step 1, and the shuffle behind it: the copies of all rows, each where its key is, in order."""
    sharded = spark_tasks.cooked(recipe)
    frames = []
    for name, frame in sources.items():
        if not sharded.copies_of(name):
            continue
        task = partial(spark_tasks.copy_rows, recipe, name, parts, by_time)
        frames.append(frame.mapInArrow(task, spark_schema(shard_rows.copy_schema(sharded, name))))
    if not frames:
        raise InputError("features: none of them is of a stream or a table; add a view that aggregates one.")
    whole = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), frames)
    return whole.repartitionById(parts, "part").sortWithinPartitions(*ORDER)


def answered(recipe: Recipe, copies: DataFrame, task: Task) -> DataFrame:
    """Step 2: the pieces."""
    return copies.mapInArrow(task, spark_schema(shard_rows.piece_schema(spark_tasks.cooked(recipe))))


def gathered(recipe: Recipe, pieces: DataFrame, asked: Asked, *, outs: int, flags: bool) -> DataFrame:
    """Step 3, and the shuffle before it: the events with their features."""
    from pyspark.sql.types import StructType

    whole = pieces.unionByName(_event_pieces(asked, outs), allowMissingColumns=True)
    placed = whole.repartitionById(outs, "out").sortWithinPartitions("row", "copy")
    event = asked.frame.schema["event"].dataType
    assert isinstance(event, StructType)
    appended = spark_schema(_appended(recipe, flags=flags))
    names = set(event.names) & set(appended.names)
    if names:
        raise InputError(f"events: column {min(names)!r} has the name of a feature. Rename the column.")
    task = partial(spark_tasks.gather_pieces, recipe, flags)
    return placed.mapInArrow(task, StructType([*event.fields, *appended.fields]))


def spark_schema(schema: pa.Schema) -> Any:
    """An Arrow schema as Spark's."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)


def _appended(recipe: Recipe, *, flags: bool) -> pa.Schema:
    """The columns that are appended to events: those of any of the plan's services, which are alike."""
    import pyarrow as pa

    service = spark_tasks.cooked(recipe).services[0]
    more = [("_lateness", pa.int8()), ("_degraded", pa.bool_())] if flags else []
    return pa.schema([*more, *((o.name.replace(".", "__"), arrow_type(o.dtype)) for o in service.outputs)])


def _event_pieces(asked: Asked, outs: int) -> DataFrame:
    from pyspark.sql import functions as sf

    place = f"_row * {outs} DIV {asked.rows}" if asked.rows else f"_row % {outs}"
    out = sf.expr(f"CAST({place} AS INT)").alias("out")
    return asked.frame.select(
        out, sf.col("_row").alias("row"), sf.lit(EVENT).alias("copy"), "event", "service"
    )


def _observed(pieces: DataFrame, views: int) -> tuple[DataFrame, Observation]:
    """The pieces without those that say how many keys were held, which are summed up on the way."""
    from pyspark.sql import Observation
    from pyspark.sql import functions as sf

    observation = Observation()
    sums: Sequence[Any] = [
        sf.sum(sf.when(sf.col("copy") == KEYS - i, sf.col("row"))).alias(f"view_{i}") for i in range(views)
    ]
    return pieces.observe(observation, *sums).where(sf.col("copy") > KEYS), observation
