"""What the tests of Spark beside Kafka look at: ``python tests/e2e/spark/kafka_work.py TURN FOLDER SERVERS TOPIC VECTORS``.

The first turn is killed amid its second micro-batch: one place has committed its vectors to the topic, the other has sent half of them. The second goes on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from penstock.app import spark_topic
from penstock.app.spark import spark_session
from penstock.app.spark_stream import start_stream
from penstock.connectors.kafka_once import OnceProducer
from penstock.definitions.project import load_project

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PARTS = 2


def stream(folder: Path, servers: str, topic: str, vectors: str) -> None:
    start_stream(
        spark_session(),
        load_project(Path(__file__).parent),
        "paid",
        places={"payments": f"kafka://{servers}/{topic}"},
        checkpoint=folder / "checkpoint",
        out=folder / "vectors",
        topic=f"kafka://{servers}/{vectors}",
        parts=PARTS,
    ).wait()


def write(messages: list[list[object]], servers: str, topic: str) -> None:
    rows = [tuple(one) for one in messages]
    frame = spark_session().createDataFrame(rows, "partition int, value string").repartition(1)
    kafka = frame.write.format("kafka").option("kafka.bootstrap.servers", servers)
    kafka.option("topic", topic).save()


def send_some_and_die(self: spark_topic.TopicSink, _: SparkSession, place: Path, batch: int) -> None:
    """In place of `TopicSink.send`: the first place whole, of the second a half, and the power is off."""
    self._begin(batch)
    first = pa.record_batch({"id": pa.array([0])})
    list(spark_topic.send_place(self, str(place), batch, [first]))
    messages = list(spark_topic.messages_of(self.recipe, place, 1, batch))
    with OnceProducer(dict(self.settings), self.topic, self.writer(1)) as producer:

        def half():
            yield from messages[: len(messages) // 2]
            producer._producer.flush(20)
            os.kill(os.getpid(), signal.SIGKILL)

        producer.send(batch, half())


def first_turn(folder: Path, servers: str, topic: str, vectors: str) -> None:
    earlier, later = json.loads((folder / "messages.json").read_text())
    write(earlier, servers, topic)
    stream(folder, servers, topic, vectors)
    write(later, servers, topic)
    spark_topic.TopicSink.send = send_some_and_die  # type: ignore[method-assign]
    stream(folder, servers, topic, vectors)


if __name__ == "__main__":
    turn = {"first": first_turn, "second": stream}[sys.argv[1]]
    turn(Path(sys.argv[2]), *sys.argv[3:])
