import numpy as np
import pytest

from penstock.monitoring.batch_facts import SCORE_STEPS, BatchFacts, Came, Decided
from penstock.monitoring.live_history import MOST_ACTIONS, LiveHistory, Sample
from penstock.monitoring.live_history_file import load, save

SECOND = 1_000_000
START = 1_800_000_000 * SECOND - 1_800_000_000 * SECOND % (3_600 * SECOND)


def facts(events=10, blocked=1, *, actions=("approve", "block"), score=0.2):
    scores = np.zeros(SCORE_STEPS, np.int64)
    scores[6] = events
    taken = np.array([events - blocked, blocked, *[0] * (len(actions) - 2)])
    came = Came("payments", "scored", events + 3, events, 2, {"missing_field": 1}, 4, 1, START)
    decided = Decided("checkout", "champion", "fraud:1", actions, taken, scores, score * events)
    return BatchFacts([came], [decided], {}, {}, 1, 2, {})


def test_a_second_a_minute_and_an_hour_have_the_same_sums():
    history = LiveHistory()
    for second in range(0, 7_200, 7):
        history.add(facts(), at_us=START + second * SECOND)
    now_us = START + 7_200 * SECOND
    batches = len(range(0, 7_200, 7))
    for step, slots in (("minute", 120), ("hour", 2)):
        shown = history.read(step, now_us=now_us)
        assert len(shown["start_us"]) == slots
        assert sum(shown["events"]) == 13 * batches
        assert sum(shown["scored"]) == sum(map(sum, shown["scores"])) == 10 * batches
        assert sum(shown["actions"]["block"]) == sum(shown["alerts"]) == batches
        assert sum(shown["late"]) == 4 * batches
        assert shown["mean_score"] == pytest.approx([0.2] * slots)
    seconds = history.read("second", now_us=now_us)
    assert seconds["start_us"][0] > now_us - 900 * SECOND
    assert sum(seconds["events"]) == 13 * len(
        [s for s in range(0, 7_200, 7) if s * SECOND + START > now_us - 900 * SECOND]
    )


def test_the_present_second_is_shown():
    history = LiveHistory()
    history.add(facts(), at_us=START + 5)
    for step in ("second", "minute", "hour"):
        assert history.read(step, now_us=START + 10)["events"] == [13]
    history.add(facts(), at_us=START + 20)
    assert history.read("minute", now_us=START + 30)["events"] == [26]


def test_memory_is_bounded():
    history = LiveHistory()
    before = history.nbytes
    for hour in range(2_000):
        history.add(facts(), at_us=START + hour * 3_600 * SECOND)
    assert history.nbytes == before < 4e6
    shown = history.read("hour", now_us=START + 1_999 * 3_600 * SECOND)
    assert len(shown["start_us"]) == 720
    assert shown["start_us"] == sorted(shown["start_us"])


def test_what_is_older_than_the_window_is_not_shown():
    history = LiveHistory()
    history.add(facts(), at_us=START)
    assert history.read("second", now_us=START + 899 * SECOND)["events"] == [13]
    assert history.read("second", now_us=START + 900 * SECOND)["events"] == []
    assert history.read("minute", now_us=START + 900 * SECOND)["events"] == [13]


def test_only_what_is_new_is_read():
    history = LiveHistory()
    for second in range(10):
        history.add(facts(), at_us=START + second * SECOND)
    shown = history.read("second", now_us=START + 10 * SECOND, since_us=START + 7 * SECOND)
    assert shown["start_us"] == [START + second * SECOND for second in (7, 8, 9)]


def test_a_clock_that_is_set_back_loses_nothing():
    history = LiveHistory()
    history.add(facts(), at_us=START + 100 * SECOND)
    history.add(facts(), at_us=START)
    assert sum(history.read("hour", now_us=START + 100 * SECOND)["events"]) == 26


@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_quantiles_of_a_minute_are_of_its_micro_batches(spread):
    history = LiveHistory()
    seconds = np.random.default_rng(0).lognormal(-6, spread, 6_000)
    for i, one in enumerate(seconds):
        history.durable(one, at_us=START + i * 10_000)
    shown = history.read("minute", now_us=START + 59 * SECOND)
    for name, share in (("p50_s", 0.5), ("p99_s", 0.99)):
        assert shown[name] == [pytest.approx(np.quantile(seconds, share), rel=0.08)]


def test_samples_are_means_sums_and_maxima():
    history = LiveHistory()
    for second, cpu, queue in ((0, 0.5, 3), (1, 1.5, 9), (2, 1.0, 0)):
        sample = Sample(cpu, memory_bytes=100.0 + second, read_bytes=5.0, lag_s=second, queue=queue)
        history.sample(sample, at_us=START + second * SECOND)
    shown = history.read("minute", now_us=START + 3 * SECOND)
    assert shown["cpu"] == [1.0]
    assert shown["memory_bytes"] == [102.0]
    assert shown["read_bytes"] == [15.0]
    assert shown["lag_s"] == [2.0]
    assert shown["queue"] == [9]


def test_many_actions_are_told_together():
    history = LiveHistory()
    names = tuple(f"a{i}" for i in range(MOST_ACTIONS + 4))
    taken = np.ones(len(names), np.int64)
    one = facts(len(names), actions=names)
    decided = one.decided[0]._replace(taken=taken)
    history.add(one._replace(decided=[decided]), at_us=START)
    shown = history.read("second", now_us=START)["actions"]
    assert len(shown) == MOST_ACTIONS
    assert shown["(other)"] == [5]
    assert sum(column[0] for column in shown.values()) == len(names)


def test_a_file_gives_back_what_was_saved(tmp_path):
    history = LiveHistory()
    for second in range(0, 4_000, 3):
        history.add(facts(), at_us=START + second * SECOND)
    size = save(history, tmp_path / "live.bin")
    assert size < 300_000
    again, problem = load(tmp_path / "live.bin")
    assert problem is None
    for step in ("second", "minute", "hour"):
        now_us = START + 4_000 * SECOND
        assert again.read(step, now_us=now_us) == history.read(step, now_us=now_us)
    again.add(facts(), at_us=START + 4_000 * SECOND)
    assert sum(again.read("hour", now_us=now_us)["events"]) == 13 * (len(range(0, 4_000, 3)) + 1)


def test_no_file_is_an_empty_history(tmp_path):
    history, problem = load(tmp_path / "live.bin")
    assert problem is None
    assert history.read("hour", now_us=START)["events"] == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_a_damaged_file_is_an_empty_history_with_a_reason(tmp_path, damage):
    history, path = LiveHistory(), tmp_path / "live.bin"
    history.add(facts(), at_us=START)
    save(history, path)
    data = path.read_bytes()
    damaged = {
        "flip": data[:60] + bytes([data[60] ^ 8]) + data[61:],
        "cut": data[:-5],
        "empty": b"",
        "foreign": b"PK" + data,
    }
    path.write_bytes(damaged[damage])
    again, problem = load(path)
    assert again.read("hour", now_us=START)["events"] == []
    assert "live.bin" in problem
    assert "begins anew" in problem


def test_every_byte_that_flips_is_noticed(tmp_path):
    history, path = LiveHistory(), tmp_path / "live.bin"
    history.add(facts(), at_us=START)
    save(history, path)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert load(path)[1] is not None
