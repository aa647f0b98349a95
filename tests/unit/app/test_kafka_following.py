"""Results on real topics: each decision, its features and each dead letter under its key, whatever fails in between."""

import json

import pytest

from penstock.app.kafka_following import FILE, KafkaFollower, sending_results
from penstock.app.runtime import Runtime
from penstock.core.errors import SettingsError, UnreachableError
from tests.unit.app.shop import CLOCK, payments, write_project

pytest.importorskip("confluent_kafka")
from tests.kafka_topics import messages, new_topic

TOPICS = ("predictions", "feature_vectors", "dead_letters")


@pytest.fixture
def shop(tmp_path, kafka):
    topics = {name: new_topic(kafka.address, name=name) for name in TOPICS}
    lines = "".join(f'{name}_topic = "{topic}"\n' for name, topic in topics.items())
    write_project(tmp_path, settings=f'[kafka]\nbootstrap_servers = "{kafka.address}"\n{lines}')
    return tmp_path, topics


def test_each_result_is_sent_once_where_nothing_fails(shop, kafka):
    root, topics = shop
    for start in (0, 60):
        with Runtime.open(root, clock=CLOCK) as runtime, sending_results(runtime, finish=lambda: True):
            runtime.ingest("payments", [*payments(120)[start : start + 60], {"id": "bad"}])
            assert not runtime.problems
    decided = [
        (m.key().decode(), json.loads(m.value())) for m in messages(kafka.address, topics["predictions"])
    ]
    assert [key for key, _ in decided] == [event["id"] for event in payments(120)]
    assert {one["endpoint"] for _, one in decided} == {"endpoint"}
    assert all(key == one["event_id"] for key, one in decided)
    vectors = [json.loads(m.value()) for m in messages(kafka.address, topics["feature_vectors"])]
    assert [one["event_id"] for one in vectors] == [key for key, _ in decided]
    assert all(isinstance(one["features"], dict) and one["features"] for one in vectors)
    letters = messages(kafka.address, topics["dead_letters"])
    assert [json.loads(m.value()) for m in letters] == [{"id": "bad"}] * 2
    assert dict(letters[0].headers())["reason"] == b"missing_field"


def test_what_failed_is_sent_again_under_the_same_keys(shop):
    root, _ = shop
    sent, fails = [], [True, False, True, False, False]

    def flush():
        if fails and fails.pop(0):
            raise UnreachableError("away")

    def follower(runtime):
        return KafkaFollower(
            runtime.store,
            runtime.plan,
            runtime.settings.kafka,
            send=lambda topic, key, *_: sent.append((topic, key)),
            flush=flush,
            folder=runtime.folder,
        )

    with Runtime.open(root, clock=CLOCK) as runtime:
        runtime.ingest("payments", payments(50))
        one = follower(runtime)
        with pytest.raises(UnreachableError):
            one.step()
        first = list(sent)
        assert one.step()
        assert sent == first * 2
        assert not one.step()
        sent.clear()
        assert not follower(runtime).step()
        (runtime.folder / FILE).write_text("{")
        with pytest.raises(UnreachableError):
            follower(runtime).step()
        assert sent == first


def test_topics_need_brokers(tmp_path):
    write_project(tmp_path, settings='[kafka]\npredictions_topic = "p"\n')
    with (
        Runtime.open(tmp_path, clock=CLOCK) as runtime,
        pytest.raises(SettingsError, match="no brokers"),
        sending_results(runtime),
    ):
        pass
