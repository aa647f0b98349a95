"""Streams that try hard: ties, late and too late events, window edges to the microsecond, extreme values.

Every stream is made from a `random.Random` alone, so a seed repeats it, and Hypothesis can shrink it by giving its
own. Times are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.core.time import to_us

if TYPE_CHECKING:
    from random import Random

    from penstock.core.types import Field
    from penstock.definitions.sources import LabelSource, StreamSource
    from penstock.testing.reference import Value

START_US = 1_700_000_000_000_000
NOT_FINITE = (math.nan, math.inf, -math.inf)
EXTREME = (0.0, -0.0, 1e15, -1e15, 0.1, 1 / 3, 5e-324, -1e-300, 2.0**60, 1e300, -1e300, 1.7e308)
INTS: tuple[int, ...] = (0, 1, -1, 7, 2**31 - 1)
TEXTS: tuple[str, ...] = (
    "a",
    "caf\u00e9",
    "cafe\u0301",
    "",
    "b",
    "\U0001f4b3",
)  # the second is the third in NFC


@dataclass(frozen=True, slots=True)
class Step:
    """A record and the source that it comes from; `is_duplicate` where its event id came before."""

    source: str
    record: dict[str, Value]
    is_duplicate: bool = False


@dataclass(frozen=True, slots=True)
class KeyedRow:
    """A row for one view: key, time, value."""

    key: str
    time_us: int
    value: float | None


def times(random: Random, count: int, *, windows_us: Sequence[int], lateness_us: int) -> Iterator[int]:
    """Times around the edges that `windows_us` and `lateness_us` make, mostly ascending."""
    newest, past = START_US, [START_US]
    for _ in range(count):
        window = random.choice(list(windows_us))
        near = random.choice((-1, 0, 1))
        moved = random.choice(
            (
                newest,  # a tie
                newest + random.randrange(1, 1 + window // 4),
                newest + random.randrange(1, 1 + window // 4),
                random.choice(past[-8:]) + window + near,  # something leaves a window, or just does not
                newest - random.randrange(1 + lateness_us),  # late
                newest - lateness_us + near,  # late, or too late
                newest - lateness_us - random.randrange(1, 2 + window),  # too late
                newest + 2 * window + near if random.random() < 0.2 else newest + 1,  # all windows empty
            )
        )
        past.append(moved)
        newest = max(newest, moved)
        yield moved


def number(random: Random) -> float:
    """A finite float: mostly an amount in cents, at times an extreme one."""
    if random.random() < 0.25:
        return random.choice(EXTREME)
    return random.randrange(-10_000, 100_000) / 100


def rows(
    random: Random, count: int, *, windows_us: Sequence[int], lateness_us: int = 0, keys: int = 3
) -> list[KeyedRow]:
    """Rows for one view, with nulls, NaN and infinities among the values."""
    names = [f"key{i}" for i in range(keys)]
    return [
        KeyedRow(
            random.choice(names),
            time_us,
            random.choice((None, *NOT_FINITE)) if random.random() < 0.15 else number(random),
        )
        for time_us in times(random, count, windows_us=windows_us, lateness_us=lateness_us)
    ]


def events(
    random: Random, count: int, *, source: StreamSource, windows_us: Sequence[int], keys: int = 3
) -> list[Step]:
    """Events that `source` accepts, one in eight of them followed some time later by a duplicate.

    Columns are filled by type, from few values where they may be keys (Int, String, Bool); optional ones are null at
    times. Duplicates come only where the source has an `event_id_field`.
    """
    lateness_us = to_us(source.allowed_lateness)
    made: list[Step] = []
    for i, time_us in enumerate(times(random, count, windows_us=windows_us, lateness_us=lateness_us)):
        record = {field.name: _value(random, field, keys=keys) for field in source.schema}
        record[source.time_field] = time_us
        if source.event_id_field is not None:
            text = next(f for f in source.schema if f.name == source.event_id_field).dtype.kind == "text"
            record[source.event_id_field] = f"event{i}" if text else i
        made.append(Step(source.name, record))
        if source.event_id_field is not None and random.random() < 0.125:
            made.append(Step(source.name, random.choice(made).record, is_duplicate=True))
    return made


def labelled(random: Random, steps: Iterable[Step], *, labels: LabelSource, delay_us: int) -> list[Step]:
    """The steps with labels among them: most events get one, early or late, at times twice or corrected.

    A label is known `delay_us` after its event or with it, give or take a microsecond, and arrives anywhere in the
    stream, also before its event. Some are of events that never come.
    """
    stream = list(steps)
    waiting: list[tuple[float, Step]] = [(float(at), step) for at, step in enumerate(stream)]
    for at, step in enumerate(stream):
        if step.source != labels.of.name or step.is_duplicate or random.random() < 0.2:
            continue
        event_id, time_us = step.record[labels.event_id_field], step.record[labels.of.time_field]
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            place = at + random.choice((-3.5, -0.5, 0.5, 0.5, 2.5, 10.5))
            known_at = int(str(time_us)) + random.choice((delay_us, delay_us, 0)) + random.choice((-1, 0, 1))
            record = {labels.event_id_field: event_id, labels.known_at: known_at}
            record[labels.label.name] = _label(random, labels.label)
            waiting.append((place, Step(labels.name, record)))
        if random.random() < 0.1:
            stranger = "nobody" if isinstance(event_id, str) else -1
            waiting.append((at + 0.5, Step(labels.name, {**record, labels.event_id_field: stranger})))
    return [step for _, step in sorted(waiting, key=lambda item: item[0])]


def interleaved(random: Random, *streams: Sequence[Step]) -> list[Step]:
    """Several streams as one, each in its own order."""
    queues = [list(reversed(stream)) for stream in streams if stream]
    merged: list[Step] = []
    while queues:
        queue = random.choice(queues)
        merged.append(queue.pop())
        queues = [q for q in queues if q]
    return merged


def accepted(steps: Iterable[Step]) -> list[Step]:
    """What the log keeps of the steps: no duplicate events."""
    return [step for step in steps if not step.is_duplicate]


def _value(random: Random, field: Field, *, keys: int) -> Value:
    if field.optional and random.random() < 0.125:
        return None
    if field.dtype.kind == "float":
        return number(random)
    if field.dtype.kind == "int":
        choices: list[Value] = [*range(keys), *range(keys), *INTS]
        return random.choice(choices)
    if field.dtype.kind == "text":
        return random.choice(TEXTS[: max(keys, 1)])
    return random.random() < 0.5 if field.dtype.kind == "bool" else START_US + random.randrange(-5, 5)


def _label(random: Random, field: Field) -> Value:
    truth = random.random() < 0.3
    values: dict[str, Value] = {"bool": truth, "int": int(truth), "float": float(truth)}
    return values[field.dtype.kind]
