"""A long run: memory flat after warm-up, keys within their bound, no descriptor left behind."""

from __future__ import annotations

import math
import os
import random
from collections import deque
from pathlib import Path

import pytest

from penstock.app.runtime import Runtime
from penstock.app.settings import EngineSettings, Settings
from penstock.testing.clock import ManualClock
from penstock.testing.streams import START_US
from tests.crash.engine_life import project, small_parts

BLOCK = 4096
STEP_US = 100_000  # so that the longest window, an hour, holds 36,000 events
MAX_KEYS = 6_000
RUN_SIZE = 1 << 14
MIB = 1 << 20


def block(chance, at, before):
    """New payments of cards that come and go, one in ten of them twice; and labels of some that came before."""
    lines = []
    for i in range(at, at + BLOCK):
        card = i // 10 + chance.randrange(5_000)
        device = f"device {i}" if i % 10 == 0 else "web"
        lines.append(
            b'{"id":"payment-%d","at":%d,"card":"card-%d","shop":"s%d","amount":%d.25,"device":"%s"}'
            % (i, START_US + i * STEP_US, card, card % 50, i % 997, device.encode())
        )
    again = chance.sample(before, min(len(before), BLOCK // 10))
    labels = [
        b'{"id":"payment-%d","is_fraud":%s,"known_at":%d}'
        % (chance.randrange(at + BLOCK), chance.choice((b"true", b"false")), START_US + (at + j) * STEP_US)
        for j in range(50)
    ]
    return lines, again, labels


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(root, events):
    """Run `events` through the engine; after each block: (bytes resident, keys held, descriptors open)."""
    chance = random.Random(1)
    settings = Settings(engine=EngineSettings(durability="process", snapshot_rows=20 * BLOCK))
    clock = ManualClock(START_US + (events + BLOCK) * STEP_US)
    measured, recent = [], deque([[]], maxlen=16)
    with small_parts(run_size=RUN_SIZE, max_keys=MAX_KEYS):
        runtime = Runtime.open(root, project=project(), settings=settings, clock=clock)
    with runtime:
        for at in range(0, events, BLOCK):
            lines, again, labels = block(chance, at, chance.choice(recent))
            recent.append(lines)
            decode = runtime.engine.decode
            inputs = [("payments", b"\n".join(lines + again)), ("chargebacks", b"\n".join(labels))]
            runtime.process([(source, decode(source, data)) for source, data in inputs])
            keys = max(view.stats.keys for view in runtime.engine.features.views)
            measured.append((resident_bytes(), keys, sum(1 for _ in Path("/proc/self/fd").iterdir())))
        runtime.engine.flush()
        counters = runtime.store.counters()
    assert counters["scored"] == -(-events // BLOCK) * BLOCK
    assert counters["received"] == counters["scored"] + counters["duplicate"]
    return measured


def check_flat(measured, *, mib):
    third = len(measured) // 3
    middle, last = measured[third : 2 * third], measured[2 * third :]
    # What grows by design: two bytes an event id for the filters of the index.
    grown = max(m[0] for m in last) - max(m[0] for m in middle) - 2 * BLOCK * third
    assert grown < mib * MIB, f"memory grew by {grown / MIB:.1f} MiB"
    assert max(m[1] for m in measured) == MAX_KEYS, "keys are not held to their bound"
    # A sealed run of event ids is a mapped file; there are as many as the number of memtables has binary digits.
    runs = math.log2(len(measured) * BLOCK / RUN_SIZE) + 1
    assert max(m[2] for m in measured) <= measured[0][2] + runs + 4, "descriptors are left open"


def test_memory_keys_and_descriptors_stay_bounded(tmp_path):
    check_flat(soak(tmp_path, 200_000), mib=16)


@pytest.mark.nightly
def test_memory_keys_and_descriptors_stay_bounded_for_millions(tmp_path):
    check_flat(soak(tmp_path, 5_000_000), mib=48)
