"""What Spark makes of a topic with two partitions, killed once. ``python -m tests.e2e.spark.make_kafka FOLDER PYTHON SERVERS``."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from random import Random
from uuid import uuid4

from confluent_kafka import admin

from penstock.testing import streams
from services import maven
from tests.e2e.spark import definitions as project
from tests.e2e.spark.make import run_spark
from tests.e2e.spark.rows import finite
from tests.kafka_topics import messages
from tests.laws.test_engine_parity import WINDOWS_US

PARTITIONS = 2
NO_TIME, NO_JSON = '{"id": "no time"}', "no JSON"


def records():
    """Events, each once, in the order in which they are sent: those of the first micro-batch, and of the second."""
    steps = streams.events(Random(5), 200, source=project.payments, windows_us=WINDOWS_US)
    sent = [{k: finite(v) for k, v in step.record.items()} for step in steps if not step.is_duplicate]
    half = len(sent) // 2
    return sent[:half], sent[half:]


def partition_of(record):
    """Which partition an event is sent to."""
    return sum(map(ord, str(record["card_id"]))) % PARTITIONS


def make(folder, python, servers):
    """Send the events, and let Spark read them and write what it makes of them."""
    client = admin.AdminClient({"bootstrap.servers": servers})
    topics = [f"{name}-{uuid4().hex[:8]}" for name in ("payments", "feature_vectors")]
    for made in client.create_topics([admin.NewTopic(one, PARTITIONS) for one in topics]).values():
        made.result(20)
    parts = [[(partition_of(one), json.dumps(one)) for one in part] for part in records()]
    parts[0][50:50] = [(0, NO_TIME), (1, NO_JSON)]
    (folder / "messages.json").write_text(json.dumps(parts))
    jars = ",".join(map(str, maven.libraries("spark").glob("*.jar")))
    try:
        for turn, end in (("first", -signal.SIGKILL), ("second", 0)):
            given = [turn, folder, servers, *topics]
            run_spark(python, "kafka_work.py", *given, options=[f"--jars {jars}"], end=end)
        for isolation in ("read_committed", "read_uncommitted"):
            found = [_told(one) for one in messages(servers, topics[1], isolation=isolation)]
            (folder / f"{isolation}.json").write_text(json.dumps(found))
    finally:
        client.delete_topics(topics)


def _told(message):
    headers = {name: value.decode() for name, value in message.headers()}
    return message.key().decode(), headers, json.loads(message.value())


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir()
    make(place, *sys.argv[2:])
