"""Topics between stages, at a real broker."""

import secrets
import threading

import pytest

from penstock.core.errors import InputError

pytest.importorskip("confluent_kafka")
from penstock.connectors.kafka_stage import ensure_topic

WORKERS, TOPICS = 6, 5


def at_once(settings, topic):
    """What came of workers that make a topic at the same moment."""
    together, errors = threading.Barrier(WORKERS), []

    def start():
        together.wait()
        try:
            ensure_topic(settings, topic, partitions=4)
        except InputError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(WORKERS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return errors


def test_workers_that_start_at_the_same_moment_all_find_the_topic(kafka):
    settings = {"bootstrap.servers": kafka.address}
    for _ in range(TOPICS):
        assert at_once(settings, f"between-{secrets.token_hex(6)}") == []


def test_another_number_of_partitions_is_refused(kafka):
    settings, topic = {"bootstrap.servers": kafka.address}, f"between-{secrets.token_hex(6)}"
    ensure_topic(settings, topic, partitions=4)
    with pytest.raises(InputError, match="it has 4 partitions; allowed are 3"):
        ensure_topic(settings, topic, partitions=3)
