"""What the tests of Spark beside Kafka look at: ``python tests/e2e/spark/kafka_work.py FOLDER SERVERS TOPIC``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from penstock.app.spark import spark_session
from penstock.app.spark_stream import start_stream
from penstock.definitions.project import load_project


def run(folder: Path, servers: str, topic: str) -> None:
    spark = spark_session()
    project = load_project(Path(__file__).parent)
    messages = [tuple(one) for one in json.loads((folder / "messages.json").read_text())]
    frame = spark.createDataFrame(messages, "partition int, value string").repartition(1)
    kafka = frame.write.format("kafka").option("kafka.bootstrap.servers", servers)
    kafka.option("topic", topic).save()
    start_stream(
        spark,
        project,
        "paid",
        places={"payments": f"kafka://{servers}/{topic}"},
        out=folder / "vectors",
        checkpoint=folder / "checkpoint",
        parts=2,
    ).wait()


if __name__ == "__main__":
    run(Path(sys.argv[1]), *sys.argv[2:])
