"""Hypothesis strategies for streams that try hard; what they hold is said in `penstock.testing.streams`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from penstock.testing import streams
from penstock.testing.streams import KeyedRow, Step

if TYPE_CHECKING:
    from penstock import LabelSource, StreamSource

KEYS = ("a", "b", "c")


def values() -> st.SearchStrategy[float | None]:
    """Amounts, extreme values, nulls, NaN and infinities."""
    cents = st.integers(-10_000, 100_000).map(lambda cents: cents / 100)
    extreme = st.sampled_from((None, *streams.NOT_FINITE, *streams.EXTREME))
    return st.one_of(cents, cents, extreme, st.floats())


@st.composite
def rows(
    draw: st.DrawFn, *, windows_us: Sequence[int], lateness_us: int, max_size: int = 40
) -> list[KeyedRow]:
    """Rows of few keys for one view, placed by ties and edges rather than by chance; shrinks to few, plain rows."""
    newest, made = streams.START_US, []
    for _ in range(draw(st.integers(1, max_size))):
        time_us = draw(_move(newest, [row.time_us for row in made[-8:]], windows_us, lateness_us))
        made.append(KeyedRow(draw(st.sampled_from(KEYS)), time_us, draw(values())))
        newest = max(newest, time_us)
    return made


def _move(
    newest: int, past: Sequence[int], windows_us: Sequence[int], lateness_us: int
) -> st.SearchStrategy[int]:
    near = st.integers(-1, 1)
    window = st.sampled_from(sorted(windows_us))
    expiring = st.builds(lambda t, w, e: t + w + e, st.sampled_from([newest, *past]), window, near)
    return st.one_of(
        st.just(newest),
        window.flatmap(lambda w: st.integers(newest, newest + w // 4)),
        expiring,
        st.integers(newest - lateness_us, newest),
        near.map(lambda e: newest - lateness_us + e),
        window.flatmap(lambda w: st.integers(newest - lateness_us - w, newest - lateness_us)),
    )


@st.composite
def event_streams(
    draw: st.DrawFn,
    *,
    source: StreamSource,
    windows_us: Sequence[int],
    labels: LabelSource | None = None,
    label_delay_us: int = 0,
    others: Sequence[StreamSource] = (),
    max_size: int = 40,
) -> list[Step]:
    """Events of `source`, with their labels and the events of `others` among them, duplicates included."""
    random = draw(st.randoms(use_true_random=False))
    count = st.integers(1, max_size)
    steps = streams.events(random, draw(count), source=source, windows_us=windows_us)
    if labels is not None:
        steps = streams.labelled(random, steps, labels=labels, delay_us=label_delay_us)
    more = [streams.events(random, draw(count), source=other, windows_us=windows_us) for other in others]
    return streams.interleaved(random, steps, *more)


def cuts(length: int) -> st.SearchStrategy[list[int]]:
    """Where to cut a log of `length` records into batches: batch sizes that add up to it."""
    ends = st.lists(st.integers(1, max(length - 1, 1)), unique=True, max_size=8).map(sorted)
    return ends.map(lambda at: [b - a for a, b in zip([0, *at], [*at, length], strict=True) if b > a])
