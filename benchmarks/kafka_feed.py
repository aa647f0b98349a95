"""Fills topics with the stream's payments, as JSON or Avro, at once or at a steady rate; and a schema registry for the one schema.

`python -m benchmarks.kafka_feed EVENTS TOPIC RATE SECONDS` is the steady one: each event's time is when it was due, whether or not it was sent
in time, so that what is late shows in the latency. It prints how many it sent.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

from penstock.core.clock import SystemClock
from services import SERVICES

CLOCK = SystemClock()
PARTITIONS = 4
SCHEMA_NUMBER = 1
SCHEMA = {
    "type": "record",
    "name": "Payment",
    "fields": [
        {"name": "event_id", "type": "string"},
        {"name": "card_id", "type": "string"},
        {"name": "terminal_id", "type": "string"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "amount", "type": "double"},
    ],
}
TICK_S = 0.002


def new_topic(name: str) -> str:
    """An empty topic of this name, in place of the one that is there."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    admin = AdminClient({"bootstrap.servers": SERVICES["kafka"].address})
    topic = f"{name}-{CLOCK.now_us()}"
    for known in admin.list_topics(timeout=10).topics:
        if known.startswith(f"{name}-"):
            try:
                admin.delete_topics([known])[known].result(10)
            except KafkaException:
                continue
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(10)
    return topic


def fill(topic: str, events: Path, *, value_format: str) -> int:
    """Send all events, each under its card; returns how many there are."""
    encode = _avro_encoder() if value_format == "avro" else None
    producer = _producer(linger_ms=50)
    count = 0
    with events.open("rb") as lines:
        for line in lines:
            event = json.loads(line)
            _send(producer, topic, event["card_id"], line.strip() if encode is None else encode(event))
            count += 1
    _finish(producer)
    return count


def feed(topic: str, events: Path, *, rate: int, seconds: float) -> int:
    """Send `rate` events a second; returns how many were sent."""
    producer = _producer(linger_ms=1)
    with events.open("rb") as file:
        lines = [json.loads(line) for line in islice(file, int(rate * seconds))]
    began, began_us = time.monotonic(), CLOCK.now_us()
    for number, event in enumerate(lines):
        due = number / rate
        while (left := began + due - time.monotonic()) > 0:
            producer.poll(0)
            time.sleep(min(left, TICK_S))
        event["event_time"] = began_us + int(due * 1e6)
        _send(producer, topic, event["card_id"], json.dumps(event).encode())
    _finish(producer)
    return len(lines)


@contextmanager
def schema_registry() -> Iterator[str]:
    """The address of a registry that knows the one schema; it answers as Confluent's does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"schema": json.dumps(SCHEMA)}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _avro_encoder() -> Callable[[dict[str, Any]], bytes]:
    import fastavro

    schema, frame = fastavro.parse_schema(SCHEMA), struct.pack(">bI", 0, SCHEMA_NUMBER)

    def encode(event: dict[str, Any]) -> bytes:
        out = io.BytesIO(frame)
        out.seek(len(frame))
        fastavro.schemaless_writer(out, schema, event)
        return out.getvalue()

    return encode


def _producer(*, linger_ms: int) -> Any:
    from confluent_kafka import Producer

    return Producer(
        {
            "bootstrap.servers": SERVICES["kafka"].address,
            "partitioner": "murmur2_random",
            "linger.ms": linger_ms,
            "compression.type": "lz4" if linger_ms > 1 else "none",
        }
    )


def _send(producer: Any, topic: str, key: str, value: bytes) -> None:
    while True:
        try:
            producer.produce(topic, value, key)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def _finish(producer: Any) -> None:
    left = producer.flush(60)
    if left:
        raise SystemExit(f"{left} events could not be sent")


if __name__ == "__main__":
    file, topic, rate, seconds = sys.argv[1:]
    sys.stdout.write(f"{feed(topic, Path(file), rate=int(rate), seconds=float(seconds))}\n")
