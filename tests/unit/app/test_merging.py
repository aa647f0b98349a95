"""Merging sources by event time: whatever the blocks and wherever it is cut, every row once and in order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.app.merging import Feed, Resume, merged, rows_between
from penstock.core.types import Field, Int64, Timestamp
from penstock.engine.contract import Decoded, Refused
from penstock.kernel.columns import Columns, Numeric
from penstock.plan.nodes import SourceNode


def source(name, label_of=None):
    return SourceNode(
        name=name,
        fields=(Field("n", Int64), Field("t", Timestamp)),
        time_field="t",
        id_field=None,
        allowed_lateness_us=0,
        max_future_skew_us=0,
        label_of=label_of,
    )


SOURCES = {"labels": source("labels", "a"), "a": source("a"), "b": source("b")}


def block(rows, first):
    """Rows are times; None is a row that the contract refuses."""
    good = [i for i, t in enumerate(rows) if t is not None]
    columns = {
        "n": Numeric(np.array([first + i for i in good], np.int64)),
        "t": Numeric(np.array([rows[i] for i in good], np.int64)),
    }
    refused = tuple(Refused(i, "malformed_json", "", b"") for i, t in enumerate(rows) if t is None)
    return Decoded(Columns(len(good), columns), np.array(good, np.int64), refused, lambda i: b"", len(rows))


def blocks(rows, sizes, start):
    """`rows` from `start` on in blocks of the given sizes; an offset is the number of rows before it."""
    sizes = iter(sizes)
    while start < len(rows):
        stop = min(start + next(sizes, 3), len(rows))
        yield block(rows[start:stop], start), str(stop)
        start = stop


def feeds(streams, sizes, resumes):
    return [
        Feed(
            SOURCES[name],
            blocks(rows, sizes, int(resumes.get(name, Resume()).at or 0)),
            resume=resumes.get(name, Resume()),
            order=i,
        )
        for i, (name, rows) in enumerate(streams.items())
    ]


def received(parts):
    """(source, row number in its stream) of accepted rows, and how many rows were taken of each source."""
    taken = [(part.source, int(n)) for part in parts for n in part.decoded.columns["n"].values]
    return taken, {part.source: part.decoded.received for part in parts}


times = st.lists(st.one_of(st.integers(0, 12), st.integers(0, 12), st.none()), max_size=14)
streams_of = st.fixed_dictionaries({"labels": times, "a": times, "b": times})
sizes_of = st.lists(st.integers(1, 5), max_size=12)


@settings(max_examples=150, deadline=None)
@given(streams=streams_of, sizes=sizes_of)
def test_no_row_comes_before_one_that_belongs_before_it(streams, sizes):
    """Between sources: by running maximum of time, labels first. Within a source: as it came."""
    key = {}
    for order, (name, rows) in enumerate(streams.items()):
        latest = -1
        for n, t in enumerate(rows):
            if t is not None:
                latest = max(latest, t)
                key[name, n] = (latest, name != "labels", order, n)
    steps = [received(parts)[0] for parts in merged(feeds(streams, sizes, {}))]
    seen = [row for step in steps for row in step]
    assert sorted(seen) == sorted(key)
    last = (-1,)
    for step in steps:
        ranked = sorted(key[row] for row in step)
        if ranked:
            assert last <= ranked[0]
            last = ranked[-1]
    for name in streams:
        mine = [n for s, n in seen if s == name]
        assert mine == sorted(mine)


@settings(max_examples=150, deadline=None)
@given(streams=streams_of, sizes=sizes_of, others=sizes_of, cut=st.integers(0, 12))
def test_resumed_anywhere_every_row_comes_once(streams, sizes, others, cut):
    """Other blocks after the cut: a file read again need not be cut where it was."""
    resumes, seen, count = {}, [], dict.fromkeys(streams, 0)
    for again in (sizes, others):
        for step, parts in enumerate(merged(feeds(streams, again, dict(resumes)))):
            if again is sizes and step == cut:
                break
            taken, sizes_taken = received(parts)
            seen += taken
            for name, n in sizes_taken.items():
                count[name] += n
            resumes |= {part.source: Resume.parse(str(part.resume)) for part in parts}
    assert count == {name: len(rows) for name, rows in streams.items()}
    assert len(seen) == sum(t is not None for rows in streams.values() for t in rows)


def test_rows_between_keeps_numbers_and_refused_rows():
    part = rows_between(block([5, None, 7, 8], 0), 1, 3)
    assert part.rows.tolist() == [2]
    assert [one.row for one in part.refused] == [1]
    assert part.received == 2


def test_an_offset_reads_back():
    assert Resume.parse(str(Resume('{"file":"a"}', 3))) == Resume('{"file":"a"}', 3)
    assert Resume.parse(None) == Resume()
