"""What a run reads: pipes line by line, files by the ends of their names, offsets under stable keys."""

import os
from pathlib import Path
from threading import Event

import pytest

from penstock.app.inputs import PipeInput, format_of, given_inputs
from penstock.core.errors import InputError
from penstock.core.limits import MAX_EVENT_BYTES
from penstock.core.types import Field, Int64, Timestamp
from penstock.engine.contract import Contract
from penstock.plan.nodes import SourceNode

SOURCE = SourceNode(
    name="ticks",
    fields=(Field("n", Int64), Field("t", Timestamp)),
    time_field="t",
    id_field=None,
    allowed_lateness_us=0,
    max_future_skew_us=0,
)


def through_pipe(*pieces, stop=None):
    """What is decoded when these bytes are written to a pipe that is then closed."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        steps = PipeInput("ticks", stream).read(
            Contract(SOURCE), None, rows=10, final=True, stop=stop or Event()
        )
        found = []
        for piece in pieces:
            os.write(writing, piece)
            if piece.endswith(b"\n"):
                found.append(next(steps)[0])
        os.close(writing)
        found += [decoded for decoded, _ in steps]
    return found


def test_each_write_is_processed_at_once():
    found = through_pipe(b'{"n":1,"t":1}\n{"n":2,"t":2}\n', b'{"n":3,"t":3}\n')
    assert [decoded.received for decoded in found] == [2, 1]


def test_a_line_in_two_pieces_is_one_line():
    (found,) = through_pipe(b'{"n":1,', b'"t":1}\n')
    assert (found.received, found.refused) == (1, ())


def test_the_last_line_needs_no_line_break():
    assert [decoded.received for decoded in through_pipe(b'{"n":1,"t":1}')] == [1]


def test_asked_to_stop_it_reads_no_more():
    stop = Event()
    stop.set()
    assert through_pipe(b'{"n":1,"t":1}', stop=stop) == []


def test_an_endless_line_is_refused_in_bounded_memory(tmp_path):
    path = tmp_path / "long.ndjson"
    path.write_bytes(b"x" * (3 * MAX_EVENT_BYTES) + b'\n{"n":1,"t":1}\n')
    with path.open("rb") as stream:
        steps = PipeInput("ticks", stream).read(Contract(SOURCE), None, rows=10, final=True, stop=Event())
        found = [decoded for decoded, _ in steps]
    assert [r.reason for decoded in found for r in decoded.refused] == ["event_too_large"]
    assert sum(decoded.columns.length for decoded in found) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.ndjson", "ndjson"), ("a.JSONL", "ndjson"), ("a.csv", "csv"), ("a.pq", "parquet")],
)
def test_formats_by_name(name, expected):
    assert format_of(Path(name)) == expected


def test_an_unknown_format_lists_the_known():
    with pytest.raises(InputError, match=r"known are .*\.parquet"):
        format_of(Path("a.xlsx"))


def test_a_folder_has_the_format_of_its_files(tmp_path):
    (tmp_path / "day-1.csv").write_text("n,t\n")
    assert format_of(tmp_path) == "csv"


def test_an_offset_outlives_a_moved_project(tmp_path):
    keys = set()
    for name in ("here", "there"):
        data = tmp_path / name / "data"
        data.mkdir(parents=True)
        (data / "ticks.csv").write_text("n,t\n")
        (one,) = given_inputs({"ticks": data / "ticks.csv"}, {"ticks": SOURCE}, root=tmp_path / name)
        keys.add(one.key)
    assert keys == {"ticks:data/ticks.csv"}
