"""A topic as the sink of a Spark stream, as far as it goes without Spark: messages of files, and where a micro-batch begins."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from pyarrow import parquet

from penstock import Aggregate, Entity, FeatureService, PushConfig, StreamFeatureView, StreamSource
from penstock.core.errors import InputError, StoreError
from penstock.definitions.project import load_project
from penstock.engine.feature_stream import stream_schema
from penstock.engine.shards import shard_plan
from penstock.plan.compile import compile_plan
from penstock.types import Field, Float64, String, Timestamp
from tests.laws.test_engine_parity import lists, payments, ratio, totals

pytest.importorskip("confluent_kafka")
from penstock.app.spark_topic import messages_of, topic_sink
from penstock.connectors.kafka_once import Keyed, Mark, Marks, OnceProducer
from tests.kafka_topics import new_topic
from tests.unit.app.shop import write_project

SERVICE = FeatureService("vectors", features=[totals, ratio, lists])
AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
PARTS = 2


def recipe():
    plan = compile_plan([(SERVICE, payments)])
    return shard_plan(plan, [plan.services["vectors"]])


@pytest.fixture
def sink(tmp_path, kafka):
    """A sink whose topic and checkpoint are new."""
    return made(tmp_path, kafka, new_topic(kafka.address))


def made(folder, kafka, topic, recipe=recipe):
    checkpoint = folder / "checkpoint"
    (checkpoint / "spark").mkdir(parents=True, exist_ok=True)
    (checkpoint / "spark" / "metadata").write_text(json.dumps({"id": f"query of {topic}"}))
    if not (folder / "penstock.toml").exists():
        write_project(folder)
    project, address = load_project(folder), f"kafka://{kafka.address}/{topic}"
    return topic_sink(project, recipe, address, parts=PARTS, checkpoint=checkpoint)


def marks(sink):
    return Marks(dict(sink.settings), sink.topic).of([sink.writer(place) for place in range(PARTS)])


def send(sink, place, batch):
    with OnceProducer(dict(sink.settings), sink.topic, sink.writer(place)) as producer:
        return producer.send(batch, [Keyed(b"key", b"value", [])])


def write(folder, rows):
    plan = recipe().plan
    schema = stream_schema(plan.sources["payments"], plan.services["vectors"])
    schema = schema.append(pa.field("_lateness", pa.int8())).append(pa.field("_degraded", pa.bool_()))
    given = [
        {"id": str(i), "time": AT, "_lateness": 0, "_degraded": False, **row} for i, row in enumerate(rows)
    ]
    parquet.write_table(pa.Table.from_pylist(given, schema=schema), folder / "part-00001-x.parquet")


def test_messages_of_a_file(tmp_path):
    values = {
        "totals__amount_count_1m_continuous": 3,
        "totals__amount_sum_1m_continuous": -0.0,
        "totals__amount_mean_1m_continuous": float("nan"),
        "totals__time_min_1h_continuous": AT,
        "ratio__odd": True,
        "lists__amount_last_3_1m_continuous": [1.5, float("inf")],
        "lists__payee_id_last_3_1m_continuous": ["a", "b"],
    }
    write(tmp_path, [values, {"_lateness": 1}, {"_lateness": 2, "_degraded": True}])
    assert list(messages_of(recipe, tmp_path, 0, 7)) == []
    found = list(messages_of(recipe, tmp_path, 1, 7))
    assert [one.key for one in found] == [b"0", b"1", b"2"]
    assert {tuple(one.headers) for one in found} == {(("micro_batch", b"7"), ("place", b"1"))}
    said = [json.loads(one.value) for one in found]
    assert [one["flags"] for one in said] == [[], ["late"], ["too_late", "degraded"]]
    assert said[0]["time"] == "2026-01-02T03:04:05.000006+00:00"
    features = said[0]["features"]
    us = int(AT.timestamp()) * 1_000_000 + 6
    wanted = [3.0, -0.0, None, float(us), 1.0, [1.5, None], ["a", "b"]]
    assert repr([features[name.replace("__", ".")] for name in values]) == repr(wanted)
    assert features["totals.amount_max_1m_continuous"] is None
    assert tuple(features) == recipe().services[0].feature_names


def test_each_micro_batch_begins_where_the_one_before_ended(sink):
    sink._begin(3)
    assert marks(sink) == [Mark(3, ""), Mark(3, "")]
    assert [send(sink, place, 3) for place in (0, 1, 0)] == [1, 1, 0]
    sink._begin(4)
    assert [mark.step for mark in marks(sink)] == [4, 4]


def test_a_micro_batch_that_was_begun_before_a_crash_keeps_its_marks(sink, tmp_path, kafka):
    sink._begin(0)
    send(sink, 0, 0)
    again = made(tmp_path, kafka, sink.topic)
    again._begin(0)
    assert [mark.step for mark in marks(again)] == [1, 0]


def test_a_checkpoint_of_an_earlier_time_is_refused(sink):
    sink._begin(5)
    send(sink, 1, 5)
    sink._path.unlink()
    with pytest.raises(
        StoreError, match="has micro-batches up to 5 of this stream, and its checkpoint comes to 4"
    ):
        sink._begin(4)


def test_another_topic_is_refused(sink, tmp_path, kafka):
    sink._begin(0)
    with pytest.raises(InputError, match="its vectors go to the topic"):
        made(tmp_path, kafka, new_topic(kafka.address))


def test_events_without_ids_have_no_key(tmp_path, kafka):
    fields = [Field("time", Timestamp), Field("amount", Float64), Field("card_id", String)]
    bare = StreamSource("bare", PushConfig(), schema=fields)

    def bare_recipe():

        card = Entity("card", [Field("card_id", String)])
        one = Aggregate(Field("amount", Float64), "count", time_window=timedelta(hours=1))
        view = StreamFeatureView("view", source=bare, entities=[card], features=[one])
        plan = compile_plan([(FeatureService("vectors", features=[view]), bare)])
        return shard_plan(plan, [plan.services["vectors"]])

    with pytest.raises(InputError, match="no event_id_field"):
        made(tmp_path, kafka, "any", bare_recipe)
