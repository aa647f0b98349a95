"""Files in: blocks, exact resumption, following, bounded memory, and errors that say what to do."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.connectors import blocks
from penstock.connectors.files import FileReader, decode
from penstock.core.errors import InputError
from penstock.core.limits import MAX_EVENT_BYTES
from penstock.core.types import Field, Int64, String, Timestamp
from penstock.definitions.sources import FileConfig
from penstock.engine.contract import Contract
from penstock.plan.nodes import SourceNode

FIELDS = (Field("id", String), Field("at", Timestamp), Field("n", Int64))
SOURCE = SourceNode("payments", FIELDS, "at", "id", 0, 0)
HEADER = b"id,at,n\n"


def rows_between(start, stop):
    return [{"id": f"e{i}", "at": 1_700_000_000_000_000 + i, "n": i} for i in range(start, stop)]


def lines_of(file_format, rows):
    if file_format == "ndjson":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return b"".join(",".join(map(str, row.values())).encode() + b"\n" for row in rows)


def write(path, rows, *, append=False):
    file_format = path.suffix[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    if file_format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
        return
    with path.open("ab" if append else "wb") as file:
        if file_format == "csv" and not append:
            file.write(HEADER)
        file.write(lines_of(file_format, rows))


def reader(uri, root, file_format="ndjson"):
    return FileReader(FileConfig(uri, file_format), root, SOURCE)


def numbers(block):
    decoded = decode(Contract(SOURCE), block)
    assert not decoded.refused
    return decoded.columns["n"].values.tolist()


def read_all(files, offset=None, rows=4):
    return [n for block, _ in files.batches(offset, rows) for n in numbers(block)]


class Scripted:
    """A stop that, each time the reader waits, does the next thing of a script, and is set when that is done."""

    def __init__(self, *script):
        self.script = list(script)

    def is_set(self):
        return not self.script

    def wait(self, timeout):
        assert timeout > 0
        self.script.pop(0)()


FORMATS = ["ndjson", "csv", "parquet"]


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_going_on_from_any_offset_gives_every_row_once(tmp_path, file_format, rows):
    write(tmp_path / f"events.{file_format}", rows_between(0, 20))
    files = reader(f"events.{file_format}", tmp_path, file_format)
    steps = list(files.batches(None, rows))
    assert [n for block, _ in steps for n in numbers(block)] == list(range(20))
    assert all(len(numbers(block)) <= rows for block, _ in steps)
    seen = 0
    for block, offset in steps:
        seen += len(numbers(block))
        assert read_all(reader(f"events.{file_format}", tmp_path, file_format), offset, 5) == list(
            range(seen, 20)
        )


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_folder_is_read_in_the_order_of_names(tmp_path, file_format):
    for name, start in (("b", 10), ("a", 0), ("c", 20)):
        write(tmp_path / "in" / f"{name}.{file_format}", rows_between(start, start + 10))
    (tmp_path / "in" / "README.txt").write_text("not data")
    (tmp_path / "in" / f"_partial.{file_format}").write_text("not data")
    files = reader("in", tmp_path, file_format)
    assert read_all(files) == list(range(30))
    for seen, (_, offset) in zip((6, 10, 16), list(files.batches(None, 6)), strict=False):
        if file_format != "parquet":
            assert read_all(files, offset) == list(range(seen, 30))


def test_following_takes_new_lines_and_files_and_holds_an_unfinished_line_back(tmp_path):
    path = tmp_path / "in" / "a.ndjson"
    write(path, rows_between(0, 2))
    whole = lines_of("ndjson", rows_between(2, 3))
    got = []

    def append(data):
        with path.open("ab") as file:
            file.write(data)

    stop = Scripted(
        lambda: append(whole[:9]),
        lambda: (got.append("held"), append(whole[9:])),
        lambda: write(tmp_path / "in" / "b.ndjson", rows_between(3, 5)),
        lambda: None,
    )
    for block, _ in reader("in", tmp_path).follow(None, 10, stop=stop, poll_seconds=0.1):
        got += numbers(block)
    assert got == [0, 1, "held", 2, 3, 4]


def test_following_an_empty_folder_waits(tmp_path):
    (tmp_path / "in").mkdir()
    stop = Scripted(
        lambda: write(tmp_path / "in" / "a.csv", []),
        lambda: write(tmp_path / "in" / "a.csv", rows_between(0, 2)),
        lambda: None,
    )
    got = [
        n for block, _ in reader("in", tmp_path, "csv").follow(None, 10, stop=stop) for n in numbers(block)
    ]
    assert got == [0, 1]


def test_following_waits_for_the_footer_of_a_parquet_file(tmp_path):
    path = tmp_path / "in" / "a.parquet"
    path.parent.mkdir()
    path.write_bytes(b"PAR1 not yet")
    stop = Scripted(lambda: write(path, rows_between(0, 3)), lambda: None)
    got = [
        n
        for block, _ in reader("in", tmp_path, "parquet").follow(None, 10, stop=stop)
        for n in numbers(block)
    ]
    assert got == [0, 1, 2]


def test_following_ends_between_blocks(tmp_path):
    write(tmp_path / "a.ndjson", rows_between(0, 9))
    stop = Scripted(lambda: None)
    got = []
    for block, _ in reader("a.ndjson", tmp_path).follow(None, 3, stop=stop):
        got += numbers(block)
        stop.script.clear()
    assert got == [0, 1, 2]


@pytest.mark.parametrize("file_format", ["ndjson", "csv"])
def test_a_last_line_without_a_break_is_taken_at_the_end(tmp_path, file_format):
    path = tmp_path / f"a.{file_format}"
    write(path, rows_between(0, 3))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read_all(reader(path.name, tmp_path, file_format)) == [0, 1, 2]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_replaced_file_is_refused(tmp_path, file_format):
    path = tmp_path / f"a.{file_format}"
    write(path, rows_between(0, 9))
    offset = next(iter(reader(path.name, tmp_path, file_format).batches(None, 4)))[1]
    write(path, rows_between(50, 70))
    with pytest.raises(InputError, match="replaced or cut short"):
        read_all(reader(path.name, tmp_path, file_format), offset)


@pytest.mark.parametrize("file_format", ["ndjson", "csv"])
def test_a_file_cut_short_is_refused_and_a_grown_one_is_not(tmp_path, file_format):
    path = tmp_path / f"a.{file_format}"
    write(path, rows_between(0, 9))
    *_, (_, offset) = reader(path.name, tmp_path, file_format).batches(None, 4)
    write(path, rows_between(9, 11), append=True)
    assert read_all(reader(path.name, tmp_path, file_format), offset) == [9, 10]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="has 60 bytes, but more were read"):
        read_all(reader(path.name, tmp_path, file_format), offset)


def test_files_that_would_be_left_out_are_errors(tmp_path):
    write(tmp_path / "in" / "b.ndjson", rows_between(0, 9))
    files = reader("in", tmp_path)
    first, *_, last = [offset for _, offset in files.batches(None, 4)]
    write(tmp_path / "in" / "a.ndjson", rows_between(20, 22))
    with pytest.raises(InputError, match="greater names"):
        read_all(files, last)
    (tmp_path / "in" / "a.ndjson").unlink()
    (tmp_path / "in" / "b.ndjson").rename(tmp_path / "in" / "c.ndjson")
    assert read_all(files, last) == list(range(9))
    with pytest.raises(InputError, match="is gone"):
        read_all(files, first)
    with pytest.raises(InputError, match="the offset is of the file"):
        read_all(reader("in/c.ndjson", tmp_path), last)


def test_missing_empty_and_broken_inputs_say_what_to_do(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"payments.*no file or folder.*relative paths"):
        read_all(reader("nowhere.ndjson", tmp_path))
    with pytest.raises(InputError, match=r"no file that ends in \.ndjson"):
        read_all(reader("in", tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"PAR1nothingPAR1")
    with pytest.raises(InputError, match="not a Parquet file"):
        read_all(reader("a.parquet", tmp_path, "parquet"))
    (tmp_path / "a.csv").write_bytes(b"x" * (MAX_EVENT_BYTES + 9))
    with pytest.raises(InputError, match="first line"):
        read_all(reader("a.csv", tmp_path, "csv"))
    write(tmp_path / "a.ndjson", rows_between(0, 1))
    for offset in ("", "7", "null", '{"line": 3}'):
        with pytest.raises(InputError, match="file offset"):
            read_all(reader("a.ndjson", tmp_path), offset)
    with pytest.raises(InputError, match="0 rows"):
        read_all(reader("a.ndjson", tmp_path), rows=0)


@pytest.mark.parametrize("file_format", ["ndjson", "csv"])
@pytest.mark.parametrize("size", [MAX_EVENT_BYTES + 1, 3 * MAX_EVENT_BYTES, 9 * MAX_EVENT_BYTES + 17])
def test_an_overlong_line_is_refused_in_bounded_memory_and_the_next_is_read(tmp_path, file_format, size):
    path = tmp_path / f"a.{file_format}"
    write(path, rows_between(0, 2))
    with path.open("ab") as file:
        file.write(b"x" * size + b"\n")
    write(path, rows_between(2, 4), append=True)
    contract, got = Contract(SOURCE), []
    for block, _ in reader(path.name, tmp_path, file_format).batches(None, 3):
        assert len(block.payload) < blocks.BLOCK_BYTES + 2 * blocks.READ_BYTES
        decoded = decode(contract, block)
        got += decoded.columns["n"].values.tolist() + [r.reason for r in decoded.refused]
    assert sorted(map(str, got)) == ["0", "1", "2", "3", "event_too_large"]


def test_an_overlong_line_that_has_no_end_yet_is_held_back(tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_bytes(lines_of("ndjson", rows_between(0, 1)) + b"x" * (3 * MAX_EVENT_BYTES))
    stop = Scripted(lambda: None)
    assert [numbers(block) for block, _ in reader("a.ndjson", tmp_path).follow(None, 5, stop=stop)] == [[0]]


def test_blocks_stay_bounded_however_many_rows_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "READ_BYTES", 64)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 300)
    write(tmp_path / "a.ndjson", rows_between(0, 200))
    steps = list(reader("a.ndjson", tmp_path).batches(None, 10**6))
    assert max(len(block.payload) for block, _ in steps) <= 364
    assert [n for block, _ in steps for n in numbers(block)] == list(range(200))


def test_csv_blocks_carry_the_header_without_mark_and_blank_lines(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\n\xef\xbb\xbfid,at,n\r\na,5,1\r\n\r\nb,6,2")
    assert read_all(reader("a.csv", tmp_path, "csv"), rows=1) == [1, 2]
