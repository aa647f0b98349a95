"""A release, and new definitions, rolled out over two workers under load: two new ones come, the old ones go, and no event is lost, doubled, or long waited for."""

import signal
import time
from itertools import groupby

import pytest

pytest.importorskip("confluent_kafka")
from penstock.app.changing import apply, plan_change
from penstock.app.runtime import open_reader, plan_of
from penstock.app.worker import worker_statuses
from penstock.definitions.project import load_project
from penstock.engine.audit import audit
from penstock.engine.decisions import Decisions
from tests.crash.test_kafka_rebalance import check, longest_gaps
from tests.crash.worker_group import (
    DEFINITIONS,
    PARTITIONS,
    SESSION_S,
    Load,
    group,
    prepare,
    received,
    schemas,
    start,
    wait_for,
)
from tests.kafka_topics import new_topic

pytestmark = pytest.mark.early
LATER = DEFINITIONS.replace(
    'features = FeatureService("features", features=[spending])',
    """
bursts = StreamFeatureView("bursts", source=payments, entities=[card],
    features=[Aggregate(Field("amount", Float64), "count", time_window=timedelta(minutes=5))])
features = FeatureService("features", features=[spending, bursts])
""",
).replace('{{"block": 0.5}}', '{{"block": 0.7}}')


def at_rest(roots, workers):
    """Whether the workers have all shards among them, each at least one."""
    pids = {one.pid for one in workers}
    statuses = [one for root in roots for one in worker_statuses(root) if one.pid in pids]
    return len(statuses) == len(pids) and all(one.shards for one in statuses) and held(statuses) == PARTITIONS


def held(statuses):
    return sum(len(one.shards) for one in statuses)


def stop(worker):
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def roll(old_root, new_root, workers, log):
    """A new worker for each old one: it has its shards before the old one goes."""
    for _ in list(workers):
        workers.append(start(new_root, log))
        wait_for(lambda: at_rest({old_root, new_root}, workers))
        stop(workers.pop(0))
        wait_for(lambda: at_rest({old_root, new_root}, workers))


def change(root, address, topic):
    """Other definitions in the workers' folder, applied while they run."""
    text = LATER.format(address=address, topic=topic, session=SESSION_S * 1000)
    (root / "definitions.py").write_text(text)
    apply(plan_change(load_project(root)), root, actor="ann", reason="more features")


def all_have(root, version):
    statuses = worker_statuses(root)
    return held(statuses) == PARTITIONS and {s.version for one in statuses for s in one.shards.values()} == {
        version
    }


def decided_by(root, shard):
    """Service and policy of a shard's decisions in the order of its log, each stretch once."""
    with open_reader(root, str(shard)) as reader:
        found = [Decisions.from_bytes(one.payload) for one in reader.read_decisions()]
    return [key for key, _ in groupby((one.service, one.policy) for one in found)]


def check_order(root):
    """No shard was decided on by the old definitions after the new ones; those have computed what the log gives again."""
    orders = [decided_by(root, shard) for shard in range(PARTITIONS)]
    assert len({tuple(one) for one in orders}) == 1
    assert len(orders[0]) == 2
    plan = plan_of(load_project(root))
    for shard in range(PARTITIONS):
        with open_reader(root, str(shard)) as reader:
            report = audit(reader, plan)
            assert report.clean
            assert report.vectors


def test_definitions_are_applied_while_workers_run_and_then_a_release_is_rolled_out(tmp_path, kafka):
    topic = new_topic(kafka.address, partitions=PARTITIONS)
    prepare(tmp_path, kafka.address, topic)
    load = Load(kafka.address, topic)
    with group(tmp_path, 2) as (workers, log), load:
        time.sleep(1)
        change(tmp_path, kafka.address, topic)
        wait_for(lambda: all_have(tmp_path, 2))
        stop(workers.pop(0))  # its shards go to one that began with the old ones
        wait_for(lambda: at_rest([tmp_path], workers))
        assert all_have(tmp_path, 2)
        roll(tmp_path, tmp_path, workers, log)
        time.sleep(1)
        load.finish()
        wait_for(lambda: received(tmp_path)[0].total() >= load.sent)
    ids, times = received(tmp_path, final=True)
    check(load.sent, ids, longest_gaps(times, []))
    check_order(tmp_path)


def test_new_workers_bring_their_definitions_in_folders_of_their_own(tmp_path, kafka, postgres):
    topic, old, new = new_topic(kafka.address, partitions=PARTITIONS), tmp_path / "old", tmp_path / "new"
    with schemas(postgres.address) as store:
        for root, definitions in ((old, DEFINITIONS), (new, LATER)):
            root.mkdir()
            prepare(root, kafka.address, topic, store=store, definitions=definitions)
        load = Load(kafka.address, topic)
        with group(old, 2) as (workers, log), load:
            time.sleep(1)
            roll(old, new, workers, log)
            time.sleep(1)
            load.finish()
            wait_for(lambda: received(new)[0].total() >= load.sent)
        ids, times = received(new, final=True)
        check(load.sent, ids, longest_gaps(times, []))
        check_order(new)
