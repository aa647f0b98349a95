"""Stages of workers without their servers: the same bits as one engine, whatever is sent twice, cut, or comes in whatever order."""

import random
from contextlib import ExitStack
from threading import Event

import msgspec
import pytest

from penstock.app import stage_inputs, stage_sending
from penstock.app.running import Runner
from penstock.app.stage_blocks import Block
from penstock.app.stage_inputs import FIRST_S, PATIENCE_S, STALE_MS, TIDY_MESSAGES
from penstock.app.stage_sending import SENT, Sent
from penstock.engine.audit import audit
from penstock.kernel.columns import Columns
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
            send_all(runtime, stage, number, topic)
            report = audit(runtime.store, runtime.plan)
            assert report.clean
            assert report.vectors == len(events[number])


def work(runtime, one):
    """Process what a shard of the second stage reads, as a runner does."""
    runner = Runner(runtime, [], stop=Event(), stage=one)
    assert any(not runner.step() for _ in range(1_000)), "it does not come to rest"
    runner.finish()


def decided_in_stages(project, topic, stages=None):
    found, (*_, before, stage) = {}, stages or chain(project)
    for number in range(PARTITIONS):
        with opened(project, f"shop-{number}", stage.plan) as runtime:
            work(runtime, reading(runtime, topic, number, before=before))
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


def test_three_stages_have_the_bits_of_one_engine(tmp_path, monkeypatch):
    monkeypatch.setattr(stage_sending, "STRETCH_ROWS", 50)
    events, labels = history(600, 8, late=0.05)
    with opened(write_project(tmp_path / "one", devices=True)) as runtime:
        process(runtime, events, labels)
        expected = decided(runtime)
    project = write_project(tmp_path / "many", devices=True)
    stages, topics = chain(project, "card", "device", "shop"), [Topic(PARTITIONS), Topic(PARTITIONS)]
    assert [[view.name for view in stage.plan.views if not view.given] for stage in stages] == [
        ["by_card"],
        ["by_device"],
        ["by_shop", "risk"],
    ]
    for at, stage in enumerate(stages[:2]):
        for number in range(PARTITIONS):
            with opened(project, f"{stage.column}-{number}", stage.plan) as runtime:
                if at:
                    work(runtime, reading(runtime, topics[0], number, before=stages[0]))
                else:
                    process(runtime, [events[number]], [labels[number]])
                send_all(runtime, stage, number, topics[at])
                assert audit(runtime.store, runtime.plan).clean
    assert decided_in_stages(project, topics[1], stages) == expected


def send_all(runtime, stage, number, topic):
    one = sender(runtime, stage, number, topic)
    while one.step(rest_at=runtime.engine.position):
        pass


@pytest.mark.parametrize("seed", range(3))
def test_the_order_does_not_depend_on_who_is_first(tmp_path, monkeypatch, seed):
    """Shards of both stages take turns as they like; nobody is at rest before its end."""
    monkeypatch.setattr(stage_sending, "STRETCH_ROWS", 20)
    events, labels = history(500, 20 + seed, late=0.05)
    expected = one_engine(tmp_path / "one", events, labels)
    project, topic, turns = write_project(tmp_path / "many"), Topic(PARTITIONS), random.Random(seed)
    first, last = chain(project)
    with ExitStack() as stack:
        senders, runners, runtimes = [], [], []
        for number in range(PARTITIONS):
            runtime = stack.enter_context(opened(project, f"card-{number}", first.plan))
            process(runtime, [events[number]], [labels[number]])
            senders.append((sender(runtime, first, number, topic), runtime.engine.position))
            runtimes.append(stack.enter_context(opened(project, f"shop-{number}", last.plan)))
            one = reading(runtimes[-1], topic, number)
            runners.append(Runner(runtimes[-1], [], stop=Event(), stage=one))
        early = 0
        for _ in range(400):
            one, end = turns.choice(senders)
            one.step(rest_at=end)
            early += turns.choice(runners).step()
        for runner in runners:
            while runner.step():
                pass
            runner.finish()
        assert early > 10
        found = {}
        for runtime in runtimes:
            found |= decided(runtime)
    assert found == expected


def test_what_is_sent_again_and_in_other_blocks_counts_once(tmp_path, monkeypatch):
    events, labels = history(300, 4)
    expected = one_engine(tmp_path / "one", events, labels)
    project, topic = write_project(tmp_path / "many"), Topic(PARTITIONS)
    stage = chain(project)[0]
    for number in range(PARTITIONS):
        with opened(project, f"card-{number}", stage.plan) as runtime:
            process(runtime, [events[number]], [labels[number]])
            noted = [Sent()]
            for rows, begin in ((17, 0), (50, 3), (7, 1)):  # whoever goes on does so from an older note
                monkeypatch.setattr(stage_sending, "STRETCH_ROWS", rows)
                one = sender(runtime, stage, number, topic, noted[begin])
                while one.step(rest_at=runtime.engine.position):
                    noted.append(one.sent)
            assert len(noted) > 10
    assert decided_in_stages(project, topic) == expected


def test_a_shard_of_a_later_stage_goes_on_where_its_commit_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(stage_sending, "STRETCH_ROWS", 60)
    monkeypatch.setattr(stage_inputs, "ROWS_AT_ONCE", 20)
    events, labels = history(600, 5)
    expected = one_engine(tmp_path / "one", events, labels)
    project, topic = write_project(tmp_path / "many"), Topic(PARTITIONS)
    sent_by_first_stage(project, topic, events, labels)
    plan, found, opened_times = chain(project)[1].plan, {}, 0
    for number in range(PARTITIONS):
        for _ in range(100):  # one micro-batch, then another process has it
            with opened(project, f"shop-{number}", plan) as runtime:
                runner = Runner(runtime, [], stop=Event(), stage=reading(runtime, topic, number))
                moved = runner.step()
                runner.finish()
                opened_times += 1
                mine = decided(runtime)
            if not moved:
                break
        found |= mine
    assert opened_times > 2 * PARTITIONS
    assert found == expected


@pytest.mark.parametrize(("rows_at_once", "most"), [(10_000, 1), (30, 30)])
def test_what_is_piled_up_is_taken_in_micro_batches_of_rows_not_of_messages(
    tmp_path, monkeypatch, rows_at_once, most
):
    monkeypatch.setattr(stage_sending, "STRETCH_ROWS", 3)
    monkeypatch.setattr(stage_inputs, "ROWS_AT_ONCE", rows_at_once)
    events, labels = history(300, 5)
    project, topic = write_project(tmp_path), Topic(PARTITIONS)
    sent_by_first_stage(project, topic, events, labels)
    with opened(project, "shop-0", chain(project)[1].plan) as runtime:
        one, batches = reading(runtime, topic, 0), 0
        while (found := one.step({})) is not None and found[0]:
            batches += 1
            assert sum(len(part.decoded.rows) for part in found[0]) <= PARTITIONS * (rows_at_once + 3)
        assert batches == most if most == 1 else 1 < batches <= most


def test_the_first_stage_goes_on_where_its_note_stands(tmp_path):
    project, topic = write_project(tmp_path), Topic(PARTITIONS)
    stage = chain(project)[0]
    events, labels = history(90, 6)
    with opened(project, "card-0", stage.plan) as runtime:
        process(runtime, [events[0]], [labels[0]])
        one = sender(runtime, stage, 0, topic)
        one.step(rest_at=None)
        noted = {SENT: msgspec.json.encode(one.sent).decode()}
        runtime.process([], offsets=noted)
        runtime.engine.flush()
        kept = msgspec.json.decode(runtime.store.offsets()[SENT], type=Sent)
        assert kept == one.sent
        assert kept.position == runtime.engine.position
        count = len(topic.messages[0])
        sender(runtime, stage, 0, topic, kept).step(rest_at=None)
        assert len(topic.messages[0]) == count + 1, "it says that it is there, and nothing else"


class Times:
    """A clock for readers, to be moved."""

    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Shards 0 and 1 of the first stage with their senders, shard 0 of the second, and a clock; shard 2 is at rest."""
    monkeypatch.setattr(stage_sending, "STRETCH_ROWS", 15)
    project, topic, clock = write_project(tmp_path), Topic(PARTITIONS), Times()
    first, last = chain(project)
    events, labels = history(200, 7)
    with ExitStack() as stack:
        senders = []
        for number in range(PARTITIONS):
            runtime = stack.enter_context(opened(project, f"card-{number}", first.plan))
            if number < 2:
                process(runtime, [events[number]], [labels[number]])
            senders.append(sender(runtime, first, number, topic))
            senders[-1].end = runtime.engine.position
        after = stack.enter_context(opened(project, "shop-0", last.plan))
        yield senders, topic, after, reading(after, topic, 0, now_s=clock), clock


def rows_in(messages):
    blocks = [Block.from_bytes(message.value()) for message in messages]
    return sum(Columns.from_bytes(payload).length for block in blocks for payload in block.rows.values())


def send_rest(one):
    while one.step(rest_at=one.end):
        pass


def taken(one):
    found = one.step({})
    return 0 if found is None else sum(part.decoded.received for part in found[0])


def all_taken(one):
    counts = []
    while count := taken(one):
        counts.append(count)
    return sum(counts)


def test_a_shard_that_was_never_heard_is_waited_for_longest(two):
    senders, _, after, one, clock = two
    send_rest(senders[0])
    assert taken(one) == 0
    clock.s = FIRST_S - 1
    assert taken(one) == 0
    assert after.problems == {}
    clock.s = FIRST_S + 1
    assert taken(one) == 0  # the other one
    clock.s += FIRST_S + 1
    assert all_taken(one) > 0
    assert "said nothing for a while" in after.problems["stage 1"]
    send_rest(senders[1])
    assert all_taken(one) > 0
    assert "stage 1" not in after.problems


def test_nobody_waits_for_a_shard_at_rest_and_all_for_one_that_has_more(two):
    senders, _, _, one, clock = two
    for number in (2, 0):
        send_rest(senders[number])
    senders[1].step(rest_at=senders[1].end)
    some = all_taken(one)
    assert some > 0
    assert not one.at_rest
    send_rest(senders[1])
    assert all_taken(one) > some
    assert one.at_rest
    assert clock.s == 0


def test_a_word_that_is_old_does_not_count(two):
    senders, topic, _, one, clock = two
    for number in (2, 1):
        send_rest(senders[number])
    topic.now_ms += STALE_MS + 1
    send_rest(senders[0])
    count = all_taken(one)  # up to what is known of the others
    assert not one.at_rest
    for _ in range(2):  # one after the other
        clock.s += PATIENCE_S - 1
        assert taken(one) == 0
        clock.s += 2
        count += all_taken(one)
    assert count == rows_in(topic.messages[0])


def test_the_offset_moves_though_nothing_comes(two):
    senders, topic, _, one, _ = two
    clock = [0.0]
    again = senders[2]
    again._now_s = lambda: clock[0]
    for _ in range(TIDY_MESSAGES):
        clock[0] += 2.0
        again.step(rest_at=again.end)
    kept = []
    while (found := one.step({})) is not None:
        kept.append(found)
    assert [parts for parts, _ in kept] == [[]]
    assert f'"{len(topic.messages[0])}"' in kept[0][1][one.key]
