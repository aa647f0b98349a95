"""What is put together from parts is what would have been read whole."""

import asyncio
import json

import pytest

from penstock.core.time import to_us
from penstock.dashboard.live_reads import SLOTS, LiveReads
from penstock.monitoring.live_history import STEPS, LiveHistory, Sample


def test_as_many_slots_are_kept_as_the_history_has():
    assert dict(STEPS.values()) == SLOTS


@pytest.mark.parametrize("gaps", [(1.0,), (0.4, 0.7), (0.3, 400.0, 2.0), (901.0,)])
def test_the_whole_is_the_same(gaps):
    from datetime import datetime

    history, asked, now_us = LiveHistory(), [], 5_000_000

    async def read(since):
        asked.append(since)
        since_us = None if since is None else to_us(datetime.fromisoformat(since))
        return json.loads(json.dumps(history.read("second", now_us=now_us, since_us=since_us)))

    async def go():
        nonlocal now_us
        reads = LiveReads(read)
        for turn in range(40):
            now_us += round(gaps[turn % len(gaps)] * 1e6)
            history.durable(0.001 * (turn + 1), at_us=now_us)
            history.sample(Sample(cpu=turn / 7, queue=turn), at_us=now_us)
            found = await reads.get()
            assert found == json.loads(json.dumps(history.read("second", now_us=now_us)))

    asyncio.run(go())
    assert asked[0] is None
    assert all(asked[1:]), "only what is new is asked for"
