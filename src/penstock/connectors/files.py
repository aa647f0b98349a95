"""Events from files: NDJSON, CSV or Parquet, one file or the files of a folder in the order of their names.

A reader yields blocks and, with each, the offset behind it. Committed together with the block's events, the offset makes
reading exact: after a crash every row is read once. Files of lines may grow while they are followed; a file is
finished once another with a greater name exists. A file that was replaced or cut short is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Protocol, TypeVar

from penstock.connectors.blocks import blocks_of_lines
from penstock.connectors.places import Place, guard_of_file, guard_of_lines
from penstock.core.errors import InputError
from penstock.core.limits import MAX_EVENT_BYTES
from penstock.definitions.batch_configs import FileConfig
from penstock.plan.nodes import SourceNode

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SUFFIXES = {
    "ndjson": (".ndjson", ".jsonl", ".json"),
    "csv": (".csv",),
    "parquet": (".parquet", ".pq"),
}
"""Which files of a folder are read, by format; a file that is named itself may be called anything."""

Kind = Literal["ndjson", "csv", "parquet"]
DecodedT_co = TypeVar("DecodedT_co", covariant=True)
Step = tuple["FileBlock", str]


@dataclass(frozen=True, slots=True, eq=False)
class FileBlock:
    """Some rows of a file: lines (CSV behind the file's header), or an Arrow table."""

    kind: Kind
    payload: bytes | pa.Table


class Decoder(Protocol[DecodedT_co]):
    """What turns a block into events: `penstock.engine.contract.Contract`."""

    def decode_json(self, data: bytes) -> DecodedT_co:
        """Lines of JSON."""

    def decode_csv(self, data: bytes) -> DecodedT_co:
        """Lines of CSV behind a header."""

    def decode_table(self, table: pa.Table) -> DecodedT_co:
        """An Arrow table."""


class Stop(Protocol):
    """Tells a follower to end: `threading.Event`, or a test's own."""

    def is_set(self) -> bool:
        """Whether to end."""

    def wait(self, timeout: float) -> object:
        """Wait until it is set, or for `timeout` seconds."""


def decode(contract: Decoder[DecodedT_co], block: FileBlock) -> DecodedT_co:
    """The events of `block`, decoded and checked by `contract`."""
    if isinstance(block.payload, bytes):
        return (
            contract.decode_csv(block.payload) if block.kind == "csv" else contract.decode_json(block.payload)
        )
    return contract.decode_table(block.payload)


class FileReader:
    """Reads the files of one source.

    Parameters
    ----------
    config
        Path and format.
    root
        The project folder, where relative paths start.
    source
        Whose events they are; of a Parquet file only the columns of its schema are read.
    """

    def __init__(self, config: FileConfig, root: Path, source: SourceNode) -> None:
        self._path = root / config.uri
        self._format = config.file_format
        self._source = source
        self._owner = f"source {source.name!r}"

    def batches(self, offset: str | None, rows: int) -> Iterator[Step]:
        """What the files hold behind `offset` (None: from the start), in blocks of up to `rows` rows.

        Yields
        ------
        tuple
            A block, and the offset behind it.

        Raises
        ------
        InputError
            Where a file is missing, unreadable, or not the one that `offset` was taken from.
        """
        return self._blocks(offset, rows, growing=False)

    def follow(
        self, offset: str | None, rows: int, *, stop: Stop, poll_seconds: float = 1.0
    ) -> Iterator[Step]:
        """As `batches`, but go on with new lines and new files until `stop` is set.

        A last line without a line break is held back until it is finished, and so is a Parquet file.
        """
        while not stop.is_set():
            for block, behind in self._blocks(offset, rows, growing=True):
                offset = behind
                yield block, behind
                if stop.is_set():
                    return
            stop.wait(poll_seconds)

    def files(self) -> list[Path]:
        """The files that there are now, in the order of their names; raises `InputError` where there is none."""
        return self._files(growing=False)

    def _blocks(self, offset: str | None, rows: int, *, growing: bool) -> Iterator[Step]:
        if rows < 1:
            raise InputError(f"{self._owner}: blocks of {rows} rows were asked for; allowed is 1 or more.")
        files = self._files(growing=growing)
        place = None if offset is None else Place.from_text(offset)
        if place is not None:
            self._check_files(files, place)
        for done, path in enumerate(files):
            if place is not None and path.name < place.file:
                continue
            start = place if place is not None and path.name == place.file else Place(path.name, done=done)
            final = not growing or done < len(files) - 1
            read = self._parquet if self._format == "parquet" else self._lines
            try:
                with path.open("rb") as file:
                    for block, behind in read(file, path, start, rows, final=final):
                        yield block, behind.to_text()
            except OSError as error:
                raise InputError(
                    f"{self._owner}: {path} cannot be read ({error.strerror or error}). Check the file and its permissions."
                ) from error

    def _files(self, *, growing: bool) -> list[Path]:
        if self._path.is_file():
            return [self._path]
        if not self._path.is_dir():
            raise InputError(
                f"{self._owner}: there is no file or folder {self._path}. Put the data there, or correct the uri of its "
                "FileConfig; relative paths start at the project folder."
            )
        allowed = SUFFIXES[self._format]
        found = [
            p
            for p in self._path.iterdir()
            if p.suffix.lower() in allowed and not p.name.startswith((".", "_"))
        ]
        if not found and not growing:
            raise InputError(
                f"{self._owner}: the folder {self._path} holds no file that ends in {' or '.join(allowed)}. Put the data "
                "there, or correct the FileConfig."
            )
        return sorted((p for p in found if p.is_file()), key=lambda p: p.name)

    def _check_files(self, files: list[Path], place: Place) -> None:
        """Refuse to go on from `place` where that would leave out a file or a part of one."""
        known = sum(1 for p in files if p.name < place.file)
        if self._path.is_file() and self._path.name != place.file:
            raise InputError(
                f"{self._owner}: the offset is of the file {place.file}, but the FileConfig names {self._path}. Name the former "
                "file, or start again without an offset."
            )
        if known > place.done:
            raise InputError(
                f"{self._owner}: {known} files of {self._path} come before {place.file}, but only {place.done} did when it was "
                "read. New files need greater names than those that were read; rename them."
            )
        gone = all(p.name != place.file for p in files)
        if gone and self._format != "parquet" and place.at < place.size:
            raise InputError(
                f"{self._owner}: {place.file} is gone from {self._path}, but only {place.at} of its {place.size} bytes were read. "
                "Put it back, or start again without an offset."
            )

    def _check_guard(self, path: Path, place: Place, size: int, guard: int) -> None:
        if size < (place.size if self._format == "parquet" else place.at):
            found = f"it has {size} bytes, but more were read from it"
        elif guard != place.guard:
            found = "it holds other data than when it was read"
        else:
            return
        raise InputError(
            f"{self._owner}: {path} was replaced or cut short: {found}. Put the former file back, give the new data a new "
            "name, or start again without an offset."
        )

    def _lines(
        self, file: IO[bytes], path: Path, start: Place, rows: int, *, final: bool
    ) -> Iterator[tuple[FileBlock, Place]]:
        if start.at:
            size = path.stat().st_size
            self._check_guard(path, start, size, guard_of_lines(file, min(start.at, size)))
        kind: Kind = "csv" if self._format == "csv" else "ndjson"
        header = b""
        if kind == "csv":
            header, body = self._header(file, path, final=final)
            if not header:
                return
            start = replace(start, at=max(start.at, body))
        for lines, end in blocks_of_lines(file, start.at, rows=rows, final=final):
            behind = replace(
                start, at=end, size=max(path.stat().st_size, end), guard=guard_of_lines(file, end)
            )
            yield FileBlock(kind, header + lines), behind

    def _header(self, file: IO[bytes], path: Path, *, final: bool) -> tuple[bytes, int]:
        """The header line and the byte behind it; empty where there is none yet."""
        line = b"\n"
        while line and not line.strip():
            line = file.readline(MAX_EVENT_BYTES + 1)
        if len(line) > MAX_EVENT_BYTES:
            raise InputError(
                f"{self._owner}: the first line of {path} is longer than {MAX_EVENT_BYTES} bytes; a CSV file starts with the "
                "names of its columns. Add them, or correct file_format."
            )
        if not line.endswith(b"\n") and not final:
            return b"", 0
        return (line.rstrip(b"\r\n") + b"\n" if line else b""), file.tell()

    def _parquet(
        self, file: IO[bytes], path: Path, start: Place, rows: int, *, final: bool
    ) -> Iterator[tuple[FileBlock, Place]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        size = path.stat().st_size
        guard = guard_of_file(file, size)
        if start.size:
            self._check_guard(path, start, size, guard)
        try:
            parquet = pq.ParquetFile(file)
        except pa.ArrowInvalid as error:
            if not final:
                return  # its footer, which is written last, is not there yet
            raise self._broken(path, error) from error
        here = replace(start, size=size, guard=guard)
        try:
            yield from self._row_groups(parquet, here, rows)
        except (pa.ArrowException, OSError) as error:
            raise self._broken(path, error) from error

    def _row_groups(
        self, parquet: pq.ParquetFile, place: Place, rows: int
    ) -> Iterator[tuple[FileBlock, Place]]:
        import pyarrow as pa

        names = [f.name for f in self._source.fields if f.name in parquet.schema_arrow.names]
        for group in range(place.group, parquet.num_row_groups):
            seen, skip = 0, place.at if group == place.group else 0
            for batch in parquet.iter_batches(rows, row_groups=[group], columns=names or None):
                table = pa.Table.from_batches([batch]).slice(max(skip - seen, 0))
                seen += batch.num_rows
                if table.num_rows:
                    yield FileBlock("parquet", table), replace(place, group=group, at=seen)

    def _broken(self, path: Path, error: Exception) -> InputError:
        return InputError(
            f"{self._owner}: {path} is not a Parquet file that can be read ({error}). Write it again, or correct file_format."
        )
