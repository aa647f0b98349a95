"""The fraud benchmark's payments through Kafka, two workers and PostgreSQL: each vector and score has the bits of one engine in one process.

A topic is keyed by one entity: the benchmark's service without the terminal's features in shards as they are, all of it with events and labels sent on by
terminal. A cut of the stream runs always, all of it in `make nightly`.
"""

import json
import shutil
from threading import Event

import numpy as np
import pytest
from xgboost import XGBClassifier

from examples.fraud.population import SimulatorConfig
from examples.fraud.simulator import PUBLISHED, simulate
from examples.fraud.world import HERE, events_of, labels_of
from penstock.app import Runtime, open_reader, plan_of, registry_of
from penstock.app.inputs import inputs_of
from penstock.app.kafka_inputs import reading
from penstock.app.running import Runner
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.engine.lookup import RowReader
from penstock.models.artifacts import Provenance, export_model
from penstock.models.manifest import DataRange, Feature

pytest.importorskip("confluent_kafka")
from tests.crash.worker_group import PARTITIONS, group, schemas, wait_for
from tests.kafka_topics import new_topic, produce

TINY = SimulatorConfig(customers=300, terminals=1_500, radius=9.0)
SOURCE, BATCH = "transactions", 1_000
BY_TERMINAL = """takings = StreamFeatureView(
    name="takings",
    source=transactions,
    entities=[terminal],
    features=[Aggregate(amount, function, time_window=w) for w in WINDOWS for function in ("count", "mean", "stddev_samp")],
)
"""
SETTINGS = '[project]\nname = "parity"\n[engine]\ndurability = "process"\n'


def make_project(folder, *, stream="PushConfig()", settings=""):
    folder.mkdir()
    text = (HERE / "definitions.py").read_text()
    for found, put in (
        ("stream_config=PushConfig()", f"stream_config={stream}"),
        ("[payment, spending, known_risk]", "[payment, spending]"),
        ("    PushConfig,\n", "    KafkaConfig,\n    PushConfig,\n"),
    ):
        assert text.count(found) == 1
        text = text.replace(found, put)
    (folder / "definitions.py").write_text(text)
    (folder / "penstock.toml").write_text(SETTINGS + settings)
    return folder


def serve_a_model(folder):
    """Register and promote a model of noise: what it is worth does not matter, its scores do."""
    service = plan_of(load_project(folder)).services["fraud_features"]
    draw = np.random.default_rng(5)
    vectors = np.round(draw.gamma(2.0, 30.0, (2_000, len(service.outputs))), 2)
    estimator = XGBClassifier(n_estimators=50, max_depth=5, n_jobs=1)
    estimator.fit(vectors, draw.random(len(vectors)) < vectors[:, 0] / 400)
    provenance = Provenance(
        name="xgboost",
        task="binary",
        features=tuple(Feature(output.name, output.dtype.name) for output in service.outputs),
        service_fingerprint=service.fingerprint,
        data=DataRange(0, 0, len(vectors), None, ""),
        created_us=1,
    )
    files = export_model(estimator, vectors, provenance=provenance)
    version = registry_of(folder).register(files, actor="test", reason="parity").version
    registry_of(folder).promote("xgboost", version, actor="test", reason="parity")


def make_project_with_terminals(folder, address, events, labels, *, settings=""):
    """The whole service: both topics are keyed by customer, and workers send their rows on by terminal."""
    folder.mkdir()
    text = (HERE / "definitions.py").read_text()
    for found, put in (
        (
            "stream_config=PushConfig()",
            f'stream_config=KafkaConfig("{address}", "{events}", key_field="customer_id")',
        ),
        (
            'known_at="reported_at")',
            f'known_at="reported_at",\n    stream_config=KafkaConfig("{address}", "{labels}"))',
        ),
        ("    PushConfig,\n", "    KafkaConfig,\n"),
        ("terminal_risk = ", BY_TERMINAL + "terminal_risk = "),
        ("[payment, spending, known_risk]", "[payment, spending, takings, known_risk]"),
    ):
        assert text.count(found) == 1, found
        text = text.replace(found, put)
    (folder / "definitions.py").write_text(text)
    (folder / "penstock.toml").write_text(SETTINGS.replace("parity", events) + settings)
    return folder


def decided(root, shards):
    """By event id the score and the vector, as bits; each event is decided once."""
    plan, found = plan_of(load_project(root)), {}
    for shard in shards:
        with open_reader(root, shard) as store:
            rows = RowReader(store, plan.sources)
            for batch in store.read_decisions():
                one = Decisions.from_bytes(batch.payload)
                ids = rows.events(SOURCE, batch.positions)["transaction_id"].values.tolist()
                bits = np.column_stack([one.scores, one.vectors]).view(np.int64).tolist()
                assert not found.keys() & set(ids)
                found |= zip(ids, bits, strict=True)
    return found


def embedded(root, lines):
    with Runtime.open(root) as runtime:
        for at in range(0, len(lines), BATCH):
            runtime.process([(SOURCE, runtime.decode(SOURCE, b"\n".join(lines[at : at + BATCH])))])
    return decided(root, [""])


def through_kafka(root, kafka, postgres, embedded_root, events, lines):
    topic = new_topic(kafka.address, partitions=PARTITIONS)
    produce(kafka.address, topic, [(str(e["customer_id"]), v) for e, v in zip(events, lines, strict=True)])
    with schemas(postgres.address) as store:
        make_project(root, stream=f'KafkaConfig("{kafka.address}", "{topic}")', settings=store)
        shutil.copytree(embedded_root / ".penstock" / "registry", root / ".penstock" / "registry")

        def all_decided():
            return sum(length(root, number) for number in range(PARTITIONS)) >= len(lines)

        with group(root, 2):
            wait_for(all_decided, 40 + len(lines) / 2_000)
        return decided(root, map(str, range(PARTITIONS)))


def length(root, number):
    with open_reader(root, str(number)) as store:
        return store.next_position


def check_parity(folder, kafka, postgres, config, count):
    events = events_of(simulate(config)).slice(0, count).to_pylist()
    for event in events:
        event["timestamp"] = int(event["timestamp"].timestamp()) * 1_000_000
    lines = [json.dumps(event).encode() for event in events]
    one = make_project(folder / "one")
    serve_a_model(one)
    expected = embedded(one, lines)
    assert len(expected) == len(events)
    assert len({bits[0] for bits in expected.values()}) > 100, "the scores must be able to differ"
    found = through_kafka(folder / "many", kafka, postgres, one, events, lines)
    assert found.keys() == expected.keys()
    assert sum(found[event] != bits for event, bits in expected.items()) == 0


def sent(kafka, config, count):
    """Topics with the events and labels of the benchmark, keyed by customer; events, and how many."""
    table = simulate(config).slice(0, count)
    events, labels = events_of(table).to_pylist(), labels_of(table).to_pylist()
    for row, field in [(row, "timestamp") for row in events] + [(row, "reported_at") for row in labels]:
        row[field] = int(row[field].timestamp()) * 1_000_000
    keys = [str(event["customer_id"]) for event in events]
    topics = []
    for rows in (events, labels):
        topics.append(new_topic(kafka.address, partitions=PARTITIONS))
        values = [json.dumps(row).encode() for row in rows]
        produce(kafka.address, topics[-1], list(zip(keys, values, strict=True)))
    return *topics, len(events)


def run_to_the_end(root):
    """One engine that reads all partitions, merged by event time."""
    with Runtime.open(root) as runtime:
        inputs = inputs_of(runtime, {})
        with reading(inputs):
            Runner(runtime, inputs, stop=Event()).run()
    return decided(root, [""])


def check_parity_by_terminal(folder, kafka, postgres, config, count):
    events, labels, total = sent(kafka, config, count)
    one = make_project_with_terminals(folder / "one", kafka.address, events, labels)
    serve_a_model(one)
    expected = run_to_the_end(one)
    assert len(expected) == total
    assert len({bits[0] for bits in expected.values()}) > 100, "the scores must be able to differ"
    with schemas(postgres.address) as store:
        settings = store + '[kafka]\nrepartition_by = ["terminal_id"]\n'
        many = make_project_with_terminals(folder / "many", kafka.address, events, labels, settings=settings)
        shutil.copytree(one / ".penstock" / "registry", many / ".penstock" / "registry")
        shards = [f"terminal_id-{number}" for number in range(PARTITIONS)]
        with group(many, 2, shards=2 * PARTITIONS):
            wait_for(lambda: sum(scored(many, shard) for shard in shards) >= total, 60 + total / 1_000)
        found = decided(many, shards)
    assert found.keys() == expected.keys()
    assert sum(found[event] != bits for event, bits in expected.items()) == 0


def scored(root, shard):
    with open_reader(root, shard) as store:
        return store.counters().get("scored", 0)


def test_a_cut_of_the_fraud_benchmark_with_its_terminals_has_the_same_bits(tmp_path, kafka, postgres):
    check_parity_by_terminal(tmp_path, kafka, postgres, TINY, 10_000)


@pytest.mark.nightly
def test_the_fraud_benchmark_with_its_terminals_has_the_same_bits(tmp_path, kafka, postgres):
    check_parity_by_terminal(tmp_path, kafka, postgres, PUBLISHED, None)


def test_a_cut_of_the_fraud_benchmark_has_the_same_bits(tmp_path, kafka, postgres):
    check_parity(tmp_path, kafka, postgres, TINY, 10_000)


@pytest.mark.nightly
def test_the_fraud_benchmark_has_the_same_bits(tmp_path, kafka, postgres):
    check_parity(tmp_path, kafka, postgres, PUBLISHED, None)
