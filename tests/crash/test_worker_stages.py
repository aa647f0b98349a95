"""Workers that send events on by another key, killed and stopped while events flow: each event has one decision, and all of its features.

Over each kind of store.
"""

import random
import signal
import time

import pytest

pytest.importorskip("confluent_kafka")
from penstock.app.runtime import open_reader
from penstock.app.settings import load_settings
from penstock.app.shard_plans import shard_plan
from penstock.definitions.project import load_project
from penstock.engine.audit import audit
from tests.crash.worker_group import (
    PARTITIONS,
    Load,
    group,
    prepare,
    received,
    schemas,
    start,
    wait_for,
    working,
)
from tests.kafka_topics import new_topic

pytestmark = pytest.mark.early
SHARDS = 2 * PARTITIONS
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, String, Timestamp

card, shop, amount = Field("card", String), Field("shop", String), Field("amount", Float64)
config = KafkaConfig("{address}", "{topic}", key_field="card", options={{"session.timeout.ms": "{session}"}})
payments = StreamSource("payments", config, schema=[Field("id", String), card, shop, Field("at", Timestamp), amount],
    event_id_field="id")
totals = [Aggregate(amount, "sum", time_window=timedelta(hours=1)), Aggregate(amount, "count", time_window=timedelta(hours=1))]
by_card = StreamFeatureView("by_card", source=payments, entities=[Entity("card", [card])], features=totals)
by_shop = StreamFeatureView("by_shop", source=payments, entities=[Entity("shop", [shop])], features=totals)
features = FeatureService("features", features=[by_card, by_shop])


class NoEstimator:
    def fit(self): ...

    def predict(self): ...

    def get_params(self): ...


frauds = LabelSource("frauds", of=payments, label=Field("is_fraud", Bool), known_at="known_at")
model = Model("fraud", features=features, label=frauds, estimator=NoEstimator(),
    split=TimeSplit(train=timedelta(hours=1), delay=timedelta(0), test=timedelta(hours=1)))
checkout = Endpoint("checkout", source=payments, model=model, policy=Policy("card", actions={{"block": 0.5}}))
"""


@pytest.fixture(params=["sqlite", "postgres"])
def store(request):
    """What the settings say of the store."""
    more = '[kafka]\nrepartition_by = ["shop"]\n'
    if request.param == "sqlite":
        yield more
    else:
        with schemas(request.getfixturevalue("postgres").address) as text:
            yield text + more


def check_audits(root):
    """What every shard of each stage has computed is what its log gives again; decisions have all features."""
    project, settings, decided = load_project(root), load_settings(root), 0
    for shard in [f"{column}-{number}" for column in ("card", "shop") for number in range(PARTITIONS)]:
        with open_reader(root, shard) as reader:
            report = audit(reader, shard_plan(project, settings, shard))
            assert report.clean
            assert not report.skipped
            decided += report.vectors if shard.startswith("shop") else 0
    return decided


def test_events_that_are_sent_on_survive_kills_and_restarts(tmp_path, kafka, store):
    topic = new_topic(kafka.address, partitions=PARTITIONS)
    prepare(tmp_path, kafka.address, topic, store=store, definitions=DEFINITIONS)
    chance, load = random.Random(3), Load(kafka.address, topic)
    with group(tmp_path, 2, shards=SHARDS) as (workers, log), load:
        for kind in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            time.sleep(2)
            one = workers.pop(chance.randrange(len(workers)))
            one.send_signal(kind)
            one.wait(20)
            workers.append(start(tmp_path, log))
            wait_for(lambda: working(tmp_path, {w.pid for w in workers}, shards=SHARDS), 60)
        load.finish()
        wait_for(lambda: received(tmp_path, stage="shop-")[0].total() >= load.sent, 60)
    ids, _ = received(tmp_path, final=True, stage="shop-")
    assert ids.total() == len(ids) == load.sent, "0 lost, 0 double"
    assert check_audits(tmp_path) == load.sent
