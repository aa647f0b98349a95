"""A feed of known composition, and what must be found of any beginning of it.

Every unit says what it is: a new event, a duplicate, a conflict, something that is refused, a label. So what a store has
to hold after the first n units follows from the feed alone, whatever happened on the way.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass

from penstock.testing.streams import START_US

SECOND = 1_000_000
BATCH_SIZES = (1, 1, 2, 5, 20, 60)
BAD = (
    b"{",
    b"[]",
    b'{"id":"x"}',
    b'{"id":1,"at":0,"card":"a","shop":null,"amount":1,"device":null}',
    b'\xff\xfe{"id":"y"}',
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One record as it comes in."""

    source: str
    kind: str  # new, duplicate, conflict, bad, future; label, bad_label
    line: bytes
    event_id: str = ""
    label: tuple[float, int] = (0.0, 0)
    group: int = 0  # units of one group (not 0) are one micro-batch of several sources


class Feed:
    """Payments and chargebacks in a fixed order; `at` is an index into `units`."""

    def __init__(self, seed: int, events: int) -> None:
        self.seed, self.events = seed, events
        self.units = _grouped(random.Random(seed), _units(random.Random(seed), events))
        self.end_us = START_US + (events + 1) * 4 * SECOND + 3600 * SECOND

    def next_stop(self, at: int, size: int) -> int:
        """Where a micro-batch from `at` of about `size` units ends: one source, or a whole group."""
        units, first = self.units, self.units[at]
        stop = at + 1
        if first.group:
            while stop < len(units) and units[stop].group == first.group:
                stop += 1
            return stop
        while (
            stop < min(len(units), at + size) and not units[stop].group and units[stop].source == first.source
        ):
            stop += 1
        return stop

    def inputs(self, at: int, stop: int) -> list[tuple[str, bytes]]:
        """The units as NDJSON by source."""
        lines: dict[str, list[bytes]] = {}
        for unit in self.units[at:stop]:
            lines.setdefault(unit.source, []).append(unit.line)
        return [(source, b"\n".join(found)) for source, found in lines.items()]

    def expected(self, stop: int) -> Expected:
        """What the first `stop` units come to."""
        return Expected(self.units[:stop])


class Expected:
    """What a store must hold, by counting alone."""

    def __init__(self, units: list[Unit]) -> None:
        kinds = Counter(unit.kind for unit in units)
        self.ids = [unit.event_id for unit in units if unit.kind == "new"]
        there = set(self.ids)
        self.labels: dict[str, list[tuple[float, int]]] = {}
        self.waiting = 0
        for unit in units:
            if unit.kind != "label":
                continue
            if unit.event_id not in there:
                self.waiting += 1
                continue
            known = self.labels.setdefault(unit.event_id, [])
            if unit.label not in known:
                known.append(unit.label)
        self.rows = kinds["new"] + kinds["label"]
        refused = kinds["conflict"] + kinds["bad"] + kinds["future"]
        self.dead_letters = refused + kinds["bad_label"]
        self.counters = {
            "received": kinds["new"] + kinds["duplicate"] + refused,
            "scored": kinds["new"],
            "logged": 0,
            "duplicate": kinds["duplicate"],
            "rejected": refused,
            "labels_received": kinds["label"] + kinds["bad_label"],
            "labels_rejected": kinds["bad_label"],
            "labels_joined": len(self.labels),
            "labels_pending": self.waiting,
        }


def _units(chance: random.Random, events: int) -> list[Unit]:
    placed: list[tuple[float, Unit]] = []
    new: list[tuple[float, dict[str, object]]] = []
    for i in range(events):
        placed.append((i, _event(chance, i, new)))
        if placed[-1][1].kind == "new":
            placed += _labels(chance, i, new[-1][1])
    return [unit for _, unit in sorted(placed, key=lambda item: item[0])]


def _event(chance: random.Random, i: int, new: list[tuple[float, dict[str, object]]]) -> Unit:
    drawn = chance.random()
    if new and drawn < 0.13:
        nearby = chance.random() < 0.5
        before = chance.choice(new[-20:] if nearby else new)[1]
        if drawn < 0.10:
            return Unit("payments", "duplicate", _line(before), str(before["id"]))
        return Unit("payments", "conflict", _line({**before, "amount": -1.5}), str(before["id"]))
    if drawn < 0.15:
        return Unit("payments", "bad", chance.choice(BAD))
    record = _payment(chance, i)
    if drawn < 0.16:
        return Unit("payments", "future", _line({**record, "at": START_US + 10**15}))
    new.append((i, record))
    return Unit("payments", "new", _line(record), str(record["id"]))


def _payment(chance: random.Random, i: int) -> dict[str, object]:
    late = chance.choice((0, 0, 0, 0, 5, 30, 31, 600)) if chance.random() < 0.3 else 0
    extreme = chance.choice((1e15, -0.0, 0.1, None))
    return {
        "id": f"payment-{i}",
        "at": START_US + (4 * i + chance.randrange(4) - late) * SECOND,
        "card": f"card-{min(chance.randrange(80), chance.randrange(80))}-é",
        "shop": chance.choice((None, "s1", "s2", "s3", "s4", "s5")),
        "amount": extreme if chance.random() < 0.1 else chance.randrange(100_000) / 100,
        "device": chance.choice((None, "phone", "web", f"device {i}")),
    }


def _labels(chance: random.Random, i: int, record: dict[str, object]) -> list[tuple[float, Unit]]:
    """Labels of an event: early or late, repeated or corrected; some are of events that never come."""
    found: list[tuple[float, Unit]] = []
    if chance.random() < 0.5:
        return found
    value = chance.random() < 0.3
    place = i + chance.choice((-2.5, 0.5, 0.5, 30.5, 120.5))
    known_at = int(str(record["at"])) + chance.randrange(600) * SECOND
    event_id = str(record["id"])
    found.append((place, _label(event_id, value=value, known_at=known_at)))
    drawn = chance.random()
    if drawn < 0.2:  # again, the same
        found.append((place + chance.choice((0.01, 7)), found[0][1]))
    elif drawn < 0.4:  # corrected
        found.append((place + 3, _label(event_id, value=not value, known_at=known_at + SECOND)))
    elif drawn < 0.45:
        found.append((place, _label(f"nobody-{i}", value=value, known_at=known_at)))
    elif drawn < 0.5:
        found.append((place, Unit("chargebacks", "bad_label", b'{"id":7}')))
    return found


def _label(event_id: str, *, value: bool, known_at: int) -> Unit:
    line = _line({"id": event_id, "is_fraud": value, "known_at": known_at})
    return Unit("chargebacks", "label", line, event_id, (float(value), known_at))


def _grouped(chance: random.Random, units: list[Unit]) -> list[Unit]:
    """Some stretches are to be processed as one micro-batch of both sources."""
    grouped: list[Unit] = []
    group = 0
    while len(grouped) < len(units):
        rows = chance.randrange(1, 60)
        group += 1
        together = group if chance.random() < 0.5 else 0
        grouped += [
            Unit(u.source, u.kind, u.line, u.event_id, u.label, together)
            for u in units[len(grouped) : len(grouped) + rows]
        ]
    return grouped


def _line(record: dict[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()
