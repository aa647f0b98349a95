"""A mock Kafka broker inside librdkafka, filled with the events; prints its address and stays until stdin closes."""

import json
import sys
from pathlib import Path

from confluent_kafka import Producer

producer = Producer(
    {"test.mock.num.brokers": 1, "compression.type": "lz4", "linger.ms": 50, "batch.num.messages": 10_000}
)
broker = next(iter(producer.list_topics(timeout=5).brokers.values()))
producer.list_topics("payments", timeout=5)
with Path(sys.argv[1]).open(encoding="utf-8") as lines:
    for line in lines:
        event = json.loads(line)
        while True:
            try:
                producer.produce(
                    "payments",
                    line.strip(),
                    key=event["card_id"],
                    timestamp=event["event_time"] // 1_000,
                    partition=0,
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
producer.flush(60)
print(f"{broker.host}:{broker.port}", flush=True)
sys.stdin.read()
