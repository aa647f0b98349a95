"""Commits whose whole content follows from their positions, so that what is found after a crash can be judged alone."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace

import numpy as np

from penstock.core.records import (
    Commit,
    DeadLetter,
    DecisionBatch,
    EventIds,
    LabelRecords,
    LogBatch,
    PendingLabel,
)

SOURCES = ("cards", "terminals")


def row(position: int) -> bytes:
    """What the log holds at a position: 1 to about 700 bytes."""
    seed = zlib.crc32(position.to_bytes(8, "little"))
    return seed.to_bytes(4, "little") * (1 + seed % 7) * (1 + seed % 23)


def source_of(position: int) -> str:
    return SOURCES[zlib.crc32(b"s%d" % position) % 2]


def hashes_of(positions) -> np.ndarray:
    return (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)


def is_bare(start: int) -> bool:
    """Whether the commit from `start` on stores batches alone, as nearly all commits of a live system do."""
    return bool(zlib.crc32(b"b%d" % start) % 3 == 0)


def numbered_commit(start: int, rows: int) -> Commit:
    """The commit of `rows` events from position `start` on; unless it is bare, it touches every table."""
    positions = np.arange(start, start + rows)
    log = []
    for source in SOURCES:
        own = np.array([p for p in positions if source_of(int(p)) == source], np.int64)
        if len(own):
            payload = b"".join(row(int(p)) for p in own)
            log.append(LogBatch(source, own, ingest_time_us=start, payload=payload))
    decided = b"".join(b"decided" + row(int(p)) for p in positions)
    bare = Commit(
        log=log,
        ids=EventIds(hashes_of(positions), positions),
        decisions=[DecisionBatch("checkout", positions, payload=decided)],
        counters={"received": rows, "scored": rows, "commits": 1},
    )
    if is_bare(start):
        return bare
    letter = DeadLetter(source="cards", received_us=start, reason="bad_json", detail="", payload=row(start))
    waiting = PendingLabel(
        source="cards",
        event_id=f"e{start}",
        event_hash=start,
        label_position=start,
        value=1.0,
        known_at_us=start,
    )
    return replace(
        bare,
        labels=LabelRecords(
            event_positions=np.array([start // 2]),
            label_positions=np.array([start]),
            values=np.array([float(start)]),
            known_at_us=np.array([start]),
        ),
        pending_added=[waiting],
        dead_letters=[letter],
        offsets={"file.csv": str(start + rows)},
    )


def random_rows(chance: random.Random) -> int:
    return chance.choice([1, 1, 1, 2, 5, 30])


def check_whole(store) -> None:
    """Assert that each commit that is there is there with all its parts, to the byte."""
    stop = store.next_position
    counters = store.counters()
    log, decisions = list(store.read_log()), list(store.read_decisions())
    logged = np.concatenate([b.positions for b in log]) if log else np.empty(0, np.int64)
    decided = np.concatenate([b.positions for b in decisions]) if decisions else np.empty(0, np.int64)
    assert sorted(logged.tolist()) == list(range(stop)), "the log has a hole"
    assert decided.tolist() == list(range(stop)), "an event has no decision, or two"
    for batch in log:
        assert batch.payload == b"".join(row(int(p)) for p in batch.positions), "a row has changed"
        assert {source_of(int(p)) for p in batch.positions} == {batch.source}, "a row has another source"
    for batch in decisions:
        assert batch.payload == b"".join(b"decided" + row(int(p)) for p in batch.positions), (
            "a decision has changed"
        )
    assert (counters.get("received", 0), counters.get("scored", 0)) == (stop, stop), (
        "counters and log are of different commits"
    )
    commits = counters.get("commits", 0)
    assert commits == len(decisions), "counters and batches are of different commits"
    full = [b.positions for b in decisions if not is_bare(int(b.positions[0]))]
    offsets = {"file.csv": str(full[-1][-1] + 1)} if full else {}
    assert store.offsets() == offsets, "the offset is another commit's"
    assert store.dead_letter_count() == len(full), "dead letters are of different commits"
    assert len(store.labels_of(np.arange(stop))) == len(full), "labels are of different commits"
    assert len(store.pending_labels()) == len(full), "waiting labels are of different commits"
    ids = list(store.event_ids())
    assert len(ids) == commits, "event ids are of different commits"
    for batch in ids:
        assert (batch.hashes == hashes_of(batch.positions)).all(), "an event id has changed"
