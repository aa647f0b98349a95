"""Steps of messages on a real broker: each there once for readers of what is committed, whoever is killed when."""

import os
import signal
import subprocess
import sys
from itertools import count

import pytest

from penstock.core.errors import InputError, StoreError, UnreachableError

pytest.importorskip("confluent_kafka")
from penstock.connectors.kafka_once import Keyed, Mark, Marks, OnceProducer
from tests.kafka_topics import messages, new_topic

MOST = 200
_numbers = count()


def of_step(step):
    return [
        Keyed(f"{step}-{i}".encode(), f"value {i}".encode(), [("step", b"%d" % step)]) for i in range(MOST)
    ]


def keys_of(steps):
    return sorted(message.key for step in steps for message in of_step(step))


def keys_in(place, **how):
    return sorted(one.key() for one in messages(*place, **how))


@pytest.fixture
def place(kafka):
    return kafka.address, new_topic(kafka.address, partitions=2)


@pytest.fixture
def settings(place):
    return {"bootstrap.servers": place[0]}


@pytest.fixture
def writer(place, settings):
    """The name of a writer that begins with step 0."""
    name = f"{place[1]}-writer-{next(_numbers)}"
    Marks(settings, place[1]).begin([name], 0)
    return name


def send(place, writer, step):
    with OnceProducer({"bootstrap.servers": place[0]}, place[1], writer) as producer:
        return producer.send(step, of_step(step))


def send_half_and_die(address, topic, writer, step):
    """What the killed process does."""
    with OnceProducer({"bootstrap.servers": address}, topic, writer) as producer:

        def half():
            yield from of_step(int(step))[: MOST // 2]
            producer._producer.flush(20)
            os.kill(os.getpid(), signal.SIGKILL)

        producer.send(int(step), half())


def test_a_step_that_is_sent_again_is_there_once(place, settings, writer):
    assert [send(place, writer, step) for step in (0, 0, 1, 1)] == [MOST, 0, MOST, 0]
    assert keys_in(place) == keys_of([0, 1])
    (mark,) = Marks(settings, place[1]).of([writer])
    assert mark.step == 2
    assert len(mark.digest) == 64
    assert {dict(one.headers())["step"] for one in messages(*place)} == {b"0", b"1"}


def test_who_is_killed_amid_a_step_leaves_nothing_of_it(place, writer):
    assert send(place, writer, 0) == MOST
    call = f"from {__name__} import send_half_and_die; import sys; send_half_and_die(*sys.argv[1:])"
    killed = subprocess.run([sys.executable, "-c", call, *place, writer, "1"], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert send(place, writer, 1) == MOST
    assert keys_in(place) == keys_of([0, 1])
    assert len(keys_in(place, isolation="read_uncommitted")) == 2 * MOST + MOST // 2


def test_who_takes_a_name_over_shuts_out_the_one_before(place, writer):
    with OnceProducer({"bootstrap.servers": place[0]}, place[1], writer) as first:

        def taken_over():
            yield from of_step(0)[:10]
            first._producer.flush(20)
            assert send(place, writer, 0) == MOST
            yield from of_step(0)[10:]

        with pytest.raises(UnreachableError, match="could not be sent"):
            first.send(0, taken_over())
    assert keys_in(place) == keys_of([0])


def test_whoever_fails_leaves_nothing_and_may_try_again(place, writer):
    def fails():
        yield from of_step(0)[:10]
        raise InputError("the file is gone")

    with OnceProducer({"bootstrap.servers": place[0]}, place[1], writer) as producer:
        with pytest.raises(InputError, match="the file is gone"):
            producer.send(0, fails())
        assert producer.send(0, of_step(0)) == MOST
    assert keys_in(place) == keys_of([0])


def test_what_does_not_fit_is_refused(place, settings, writer):
    send(place, writer, 0)
    with OnceProducer(settings, place[1], writer) as producer:
        with pytest.raises(StoreError, match="says something else"):
            producer.send(0, of_step(5))
        with pytest.raises(StoreError, match="a mark for step 1"):
            producer.send(2, of_step(2))
    with (
        OnceProducer(settings, place[1], "forgotten") as stranger,
        pytest.raises(StoreError, match="Kafka has no mark"),
    ):
        stranger.send(0, of_step(0))
    assert keys_in(place) == keys_of([0])


def test_marks_of_several(place, settings, writer):
    marks = Marks(settings, place[1])
    marks.begin([f"{writer}-b"], 7)
    assert marks.of([writer, f"{writer}-b", f"{writer}-c"]) == [Mark(0, ""), Mark(7, ""), None]


def test_a_topic_that_is_not_there(settings):
    with pytest.raises(InputError, match="cannot be read"):
        Marks(settings, "nowhere")
