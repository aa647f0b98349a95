"""Topics of a real broker for tests: each test gets names of its own."""

import itertools
import json
import os
import time

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

_numbers = itertools.count()


def new_topic(address, *, partitions=1, name="t"):
    """The name of a new, empty topic."""
    topic = f"{name}-{os.getpid()}-{next(_numbers)}"
    admin = AdminClient({"bootstrap.servers": address})
    config = {"max.message.bytes": "10000000"}
    for done in admin.create_topics([NewTopic(topic, partitions, config=config)]).values():
        done.result(30)
    give_up_s = time.monotonic() + 30
    while (
        admin.list_topics(topic, timeout=10).topics[topic].error is not None
    ):  # made, and not known everywhere yet
        assert time.monotonic() < give_up_s
        time.sleep(0.02)
    return topic


def produce(address, topic, messages, **settings):
    """Send ``(key, value)`` or ``(key, value, partition)``, and wait until all are there."""
    failed = []
    # Idempotent, or what is sent again would come behind what was sent later.
    own = {
        "bootstrap.servers": address,
        "partitioner": "murmur2_random",
        "linger.ms": 5,
        "enable.idempotence": True,
    }
    producer = Producer(own | settings | {"on_delivery": lambda error, _: error and failed.append(error)})
    for message in messages:
        key, value, *partition = message
        while True:
            try:
                producer.produce(topic, value, key, *partition)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(30) == 0
    assert not failed


def produce_events(address, topic, events, key):
    """Send dicts as JSON under the value of a field."""
    produce(address, topic, [(str(e[key]), json.dumps(e).encode()) for e in events])


def messages(address, topic, *, isolation="read_committed"):
    """All messages of a topic, partition after partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
        }
    )
    consumer.subscribe([topic])
    open_ones = set(consumer.list_topics(topic).topics[topic].partitions)
    found = []
    while open_ones:
        message = consumer.poll(20)
        assert message is not None
        if message.error() is None:
            found.append(message)
        else:
            assert message.error().code() == KafkaError._PARTITION_EOF
            open_ones.discard(message.partition())
    consumer.close()
    return sorted(found, key=lambda one: (one.partition(), one.offset()))
