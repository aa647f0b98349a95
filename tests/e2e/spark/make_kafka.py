"""What Spark makes of a topic with two partitions. ``python -m tests.e2e.spark.make_kafka FOLDER PYTHON SERVERS``."""

from __future__ import annotations

import json
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
from tests.laws.test_engine_parity import WINDOWS_US

PARTITIONS = 2
NO_TIME, NO_JSON = '{"id": "no time"}', "no JSON"


def records():
    """Events, each once, in the order in which they are sent."""
    steps = streams.events(Random(5), 200, source=project.payments, windows_us=WINDOWS_US)
    return [{k: finite(v) for k, v in step.record.items()} for step in steps if not step.is_duplicate]


def partition_of(record):
    """Which partition an event is sent to."""
    return sum(map(ord, str(record["card_id"]))) % PARTITIONS


def make(folder, python, servers):
    """Send the events, and let Spark read them."""
    client = admin.AdminClient({"bootstrap.servers": servers})
    topic = f"payments-{uuid4().hex[:8]}"
    client.create_topics([admin.NewTopic(topic, PARTITIONS)])[topic].result(20)
    messages = [(partition_of(one), json.dumps(one)) for one in records()]
    messages[50:50] = [(0, NO_TIME), (1, NO_JSON)]
    (folder / "messages.json").write_text(json.dumps(messages))
    jars = ",".join(map(str, maven.libraries("spark").glob("*.jar")))
    try:
        run_spark(python, "kafka_work.py", folder, servers, topic, options=[f"--jars {jars}"])
    finally:
        client.delete_topics([topic])


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir()
    make(place, *sys.argv[2:])
