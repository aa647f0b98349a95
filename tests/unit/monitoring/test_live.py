import numpy as np
import pytest

from penstock.monitoring.live import RECENT_S, LatencyHistogram, LiveMetrics
from penstock.monitoring.timeline import MOST_SLOTS, Timeline


def test_quantiles_are_within_one_percent():
    seconds = np.random.default_rng(0).lognormal(-6, 1.5, 20_000)
    histogram = LatencyHistogram()
    for value in seconds:
        histogram.add(value)
    for share in (0.01, 0.5, 0.99, 1.0):
        exact = np.quantile(seconds, share, method="inverted_cdf")
        assert histogram.quantile(share) == pytest.approx(exact, rel=0.0101)


def test_durations_outside_the_buckets_count_at_the_ends():
    histogram = LatencyHistogram()
    histogram.add(0.0)
    histogram.add(1e9)
    assert len(histogram) == 2
    assert histogram.quantile(0.5) < 2e-6
    assert histogram.quantile(1.0) > 2_000


def test_nothing_seen_is_no_latency():
    assert LatencyHistogram().quantile(0.5) is None
    assert LiveMetrics(0.0).summary(0.0).p99_s is None


def test_counts_are_the_engines_and_add_up():
    metrics = LiveMetrics(10.0)
    batch = {
        "received": 10,
        "scored": 6,
        "logged": 1,
        "duplicate": 2,
        "rejected": 1,
        "late": 3,
        "too_late": 1,
    }
    for at in (10.5, 11.0):
        metrics.add({**batch, "action.approve": 4, "action.review": 1, "action.block": 1}, at_s=at)
    metrics.add({"labels_received": 4}, at_s=11.5)
    now = metrics.summary(12.0)
    assert now.received == now.scored + now.logged + now.duplicate + now.rejected == 20
    assert (now.late, now.too_late, now.labels) == (6, 2, 4)
    assert now.actions == {"approve": 8, "block": 2, "review": 2}
    assert now.alerts == 4
    assert now.events_per_s == pytest.approx(10.0)
    assert now.to_dict()["actions"]["block"] == 2


def test_another_default_action_is_no_alert():
    metrics = LiveMetrics(0.0, default_action="pass_on")
    metrics.add({"action.pass_on": 5, "action.hold": 2}, at_s=0.1)
    assert metrics.summary(1.0).alerts == 2


def test_the_recent_rate_forgets():
    metrics = LiveMetrics(0.0)
    metrics.add({"received": 1_000}, at_s=0.0)
    metrics.add({"received": 50}, at_s=9.0)
    now = metrics.summary(10.0)
    assert now.recent_events_per_s == pytest.approx(50 / RECENT_S)
    assert now.events_per_s == pytest.approx(105.0)
    assert metrics.summary(100.0).recent_events_per_s == 0


def test_memory_does_not_grow_with_the_stream():
    metrics = LiveMetrics(0.0)
    for i in range(50_000):
        metrics.add({"received": 1}, at_s=i / 1_000)
        metrics.add_latency(0.001, at_s=i / 1_000)
    assert len(metrics._recent) <= RECENT_S * 10 + 1
    assert len(metrics.timeline._slots) <= MOST_SLOTS


def test_joined_slots_lose_no_event():
    timeline = Timeline(0.0)
    for i in range(1_001):
        timeline.add(float(i), events=3, latency_s=0.001 * (i % 7))
    assert sum(slot.events for slot in timeline._slots) == 3_003
    assert sum(slot.batches for slot in timeline._slots) == 1_001
    points = timeline.points()
    assert all(p.events_per_s == pytest.approx(3.0) for p in points)
    assert max(p.max_latency_s for p in points) == pytest.approx(0.006)
