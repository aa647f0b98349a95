"""A project that reads a real topic: order, offsets, dead letters, lag."""

import json
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import pytest

from penstock.app.inputs import inputs_of
from penstock.app.kafka_inputs import messages_behind, reading
from penstock.app.running import Runner
from penstock.app.runtime import Runtime
from penstock.connectors.kafka import partitions_of
from penstock.core.errors import InputError, UnreachableError
from penstock.testing.clock import ManualClock

pytest.importorskip("confluent_kafka")
from tests.kafka_topics import new_topic, produce, produce_events

START = datetime(2026, 1, 1, tzinfo=UTC)
DEFINITIONS = """
from datetime import timedelta
from penstock import Aggregate, Entity, FeatureService, KafkaConfig, StreamFeatureView, StreamSource
from penstock.types import Field, Float64, String, Timestamp

payments = StreamSource(
    "payments",
    KafkaConfig("{address}", "{topics}", {more}),
    schema=[Field("id", String), Field("card", String), Field("at", Timestamp), Field("amount", Float64)],
    event_id_field="id",
)
card = Entity("card", join_keys=[Field("card", String)])
spending = StreamFeatureView("spending", source=payments, entities=[card],
    features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(hours=1))])
features = FeatureService("features", features=[spending])
"""


def events(count, *, cards=7):
    return [
        {
            "id": f"e{i}",
            "card": f"c{i % cards}",
            "at": (START + timedelta(seconds=i)).isoformat(),
            "amount": float(i),
        }
        for i in range(count)
    ]


@pytest.fixture
def project(tmp_path, kafka):
    def make(topics, more="", settings=""):
        (tmp_path / "penstock.toml").write_text(f'[project]\nname = "shop"\n{settings}')
        text = DEFINITIONS.format(address=kafka.address, topics=topics, more=more)
        (tmp_path / "definitions.py").write_text(text)
        return tmp_path

    return make


def opened(root):
    return Runtime.open(root, clock=ManualClock(int((START + timedelta(days=1)).timestamp() * 1e6)))


def run(root, *, stop=None, watch=None):
    with opened(root) as runtime:
        inputs = inputs_of(runtime, {})
        with reading(inputs):
            extra = {} if watch is None else {"watch": watch}
            Runner(runtime, inputs, stop=stop or Event(), **extra).run()
            return runtime.store.counters(), logged(runtime)


def logged(runtime):
    found = []
    for batch in runtime.store.read_log():
        from penstock.kernel.columns import Columns

        columns = Columns.from_bytes(batch.payload)
        ids = columns["id"]
        text = bytes(ids.data)
        found += [text[a:b].decode() for a, b in zip(ids.offsets[:-1], ids.offsets[1:], strict=True)]
    return found


def test_partitions_are_merged_by_event_time_and_read_once(project, kafka):
    topic = new_topic(kafka.address, partitions=4)
    sent = events(500)
    produce_events(kafka.address, topic, sent, "card")
    root = project(topic)
    counters, ids = run(root)
    assert counters["received"] == counters["logged"] == 500
    assert ids == [event["id"] for event in sent]
    assert run(root)[0]["received"] == 500
    produce_events(kafka.address, topic, events(510)[500:], "card")
    counters, ids = run(root)
    assert counters["received"] == 510
    assert counters.get("duplicate", 0) == 0


def test_a_run_that_is_stopped_anywhere_goes_on_there(project, kafka):
    topic = new_topic(kafka.address, partitions=3)
    produce_events(kafka.address, topic, events(900), "card")
    root = project(topic, settings="[engine]\nbatch_rows = 50\n")
    rounds = 0
    while True:
        stop = Event()
        counters, ids = run(root, stop=stop, watch=lambda _, stop=stop: stop.set())
        rounds += 1
        if not stop.is_set() or rounds > 100:
            break
    assert rounds > 5
    assert (counters["received"], counters.get("duplicate", 0)) == (900, 0)
    assert sorted(ids) == sorted(event["id"] for event in events(900))


def test_what_cannot_be_read_becomes_a_dead_letter(project, kafka):
    topic = new_topic(kafka.address)
    good = json.dumps(events(1)[0]).encode()
    bad = [b"", None, b"{", b"[1]", b"\xff\xfe", good[:-1] + b',"x":\n1}', good + b"\n" + good]
    produce(kafka.address, topic, [(b"k", value) for value in bad])
    root = project(topic)
    counters, _ = run(root)
    assert counters["received"] == len(bad)
    assert (counters["logged"], counters["rejected"]) == (1, 6)
    with opened(root) as runtime:
        letters = runtime.store.dead_letters(100)
        assert [one.reason for one in letters][:4] == ["malformed_json"] * 3 + ["not_an_object"]
        assert letters[-1].payload == good + b"\n" + good


def test_uncommitted_messages_are_not_read(project, kafka):
    from confluent_kafka import Producer

    topic = new_topic(kafka.address)
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": topic})
    producer.init_transactions(30)
    for number, event in enumerate(events(4)):
        producer.begin_transaction()
        producer.produce(topic, json.dumps(event).encode())
        producer.flush(30)
        if number % 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    assert run(project(topic))[1] == ["e0", "e2"]


def test_events_come_while_a_project_follows_its_topic(project, kafka):
    topic = new_topic(kafka.address, partitions=2)
    root, stop, lengths = project(topic), Event(), []

    def watch(summary):
        lengths.append(summary.received)
        if summary.received >= 60:
            stop.set()

    with opened(root) as runtime:
        inputs = inputs_of(runtime, {})
        with reading(inputs):
            sender = Thread(
                target=lambda: [
                    produce_events(kafka.address, topic, events(20 * k + 20)[20 * k :], "card")
                    for k in range(3)
                ]
            )
            sender.start()
            Runner(runtime, inputs, stop=stop, watch=watch).follow()
            sender.join()
            assert messages_behind(inputs) == {"payments": 0}
        assert runtime.store.counters()["received"] == 60


def test_a_topic_that_is_not_there_and_a_broker_that_is_not(project, kafka, monkeypatch):
    monkeypatch.setitem(partitions_of.__kwdefaults__, "wait_s", 1.0)
    with opened(project("no-such-topic")) as runtime, pytest.raises(InputError, match="Create it"):
        inputs_of(runtime, {})
    settings = '[kafka]\nbootstrap_servers = "127.0.0.1:1"\n'
    with opened(project("any", settings=settings)) as runtime:
        runtime.settings.kafka.options = {}
        with pytest.raises(UnreachableError, match="no Kafka broker answers"):
            inputs_of(runtime, {})


def test_offsets_that_kafka_deleted_are_an_error(project, kafka):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    topic = new_topic(kafka.address)
    produce_events(kafka.address, topic, events(5), "card")
    root = project(topic)
    run(root)
    produce_events(kafka.address, topic, events(10)[5:], "card")
    admin = AdminClient({"bootstrap.servers": kafka.address})
    for done in admin.delete_records([TopicPartition(topic, 0, 8)]).values():
        done.result(30)
    with pytest.raises(InputError, match="no longer has what comes next"):
        run(root)


def test_latest_begins_behind_what_is_there(project, kafka):
    topic = new_topic(kafka.address)
    produce_events(kafka.address, topic, events(5), "card")
    root = project(topic, more='options={"auto.offset.reset": "latest"}')
    assert run(root)[1] == []


def test_live_data_writes_to_the_topic_under_the_entity(project, kafka):
    from confluent_kafka import Consumer
    from typer.testing import CliRunner

    from penstock.cli.main import app

    topic = new_topic(kafka.address, partitions=4)
    root = project(topic)
    (root / "sent.ndjson").write_text("\n".join(json.dumps(event) for event in events(200)))
    arguments = ["live-data", f"payments={root / 'sent.ndjson'}", "--kafka", "--rate", "2000", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--as-recorded", "--project", str(root)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["statuses"] == {"written": 200}
    counters, _ = run(root)
    assert (counters["received"], counters["logged"]) == (200, 200)
    consumer = Consumer(
        {"bootstrap.servers": kafka.address, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    places, seen = {}, 0
    while seen < 200:
        message = consumer.poll(10)
        assert message is not None
        seen += 1
        assert message.key().decode() == json.loads(message.value())["card"]
        places.setdefault(message.key(), set()).add(message.partition())
    consumer.close()
    assert all(len(found) == 1 for found in places.values())


def test_a_small_buffer_neither_stalls_nor_changes_the_order(project, kafka, monkeypatch):
    from penstock.app import kafka_inputs
    from penstock.connectors.kafka import KafkaReader

    def reader_of(source, config, settings):
        return KafkaReader(kafka_inputs.client_settings(config, settings), owner=source, most=200)

    monkeypatch.setattr(kafka_inputs, "reader_of", reader_of)
    topic = new_topic(kafka.address, partitions=3)
    sent = events(9000)
    places = [0 if i < 4000 else 1 if i < 4100 else 2 if i % 3 else 1 for i in range(9000)]
    for number in (2, 1, 0):  # what comes first in time lies in the partition that is filled last
        mine = [event for event, place in zip(sent, places, strict=True) if place == number]
        produce(kafka.address, topic, [(b"k", json.dumps(event).encode(), number) for event in mine])
    _, ids = run(project(topic))
    assert ids == [event["id"] for event in sent]


def test_a_reader_that_was_closed_says_so_at_once(kafka):
    from penstock.connectors.kafka import KafkaReader

    reader = KafkaReader({"bootstrap.servers": kafka.address}, owner="source 'payments'")
    reader.close()
    with pytest.raises(UnreachableError, match="reading has ended"):
        reader.lag()
