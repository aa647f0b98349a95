"""Stages of workers without their servers: the same bits as one engine, whatever is sent twice, cut, or comes in whatever order."""

import pytest

from penstock.app.running import Runner
from penstock.engine.audit import audit
from tests.unit.app.chains import (
    PARTITIONS,
    Topic,
    chain,
    decided,
    history,
    opened,
    process,
    reading,
    sender,
    write_project,
)


def one_engine(root, events, labels):
    with opened(write_project(root)) as runtime:
        process(runtime, events, labels)
        return decided(runtime)


def sent_by_first_stage(project, topic, events, labels):
    """What the shards of the first stage send once all is there."""
    stage = chain(project)[0]
    for number in range(PARTITIONS):
        with opened(project, f"card-{number}", stage.plan) as runtime:
            process(runtime, [events[number]], [labels[number]])
            sending = sender(runtime, stage, number, topic)
            while sending.step(rest_at=runtime.engine.position):
                pass
            report = audit(runtime.store, runtime.plan)
            assert report.clean


def work(runtime, one):
    """Process what a shard of the second stage reads, as a runner does."""
    runner = Runner(runtime, [one], stop=None)
    while runner.step():
        pass
    runner.finish()


def decided_in_stages(project, topic):
    found = {}
    for number in range(PARTITIONS):
        with opened(project, f"shop-{number}", chain(project)[1].plan) as runtime:
            work(runtime, reading(runtime, topic, number))
            report = audit(runtime.store, runtime.plan)
            assert report.clean
            assert report.vectors == len(decided(runtime))
            found |= decided(runtime)
    return found


@pytest.mark.parametrize(("seed", "late"), [(1, 0.0), (2, 0.0), (3, 0.1)])
def test_stages_have_the_bits_of_one_engine(tmp_path, seed, late):
    events, labels = history(900, seed, late=late)
    expected = one_engine(tmp_path / "one", events, labels)
    assert len(expected) == 900
    project, topic = write_project(tmp_path / "many"), Topic(PARTITIONS)
    sent_by_first_stage(project, topic, events, labels)
    found = decided_in_stages(project, topic)
    assert found.keys() == expected.keys()
    assert sum(found[one] != expected[one] for one in expected) == 0
