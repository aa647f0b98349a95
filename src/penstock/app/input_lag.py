"""How much of the files that a run reads is not committed yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.app.inputs import FileInput
from penstock.app.merging import Resume
from penstock.connectors.files import FileReader
from penstock.connectors.places import Place

if TYPE_CHECKING:
    from penstock.app.inputs import Input
    from penstock.plan.nodes import SourceNode


def bytes_behind(
    inputs: Iterable[Input], offsets: Mapping[str, str], sources: Mapping[str, SourceNode]
) -> dict[str, int]:
    """By source the bytes of its files behind the committed offset; pipes and tables have none, nor has a folder that cannot be read.

    Of a Parquet file that is under way it is the share of its rows. Up to one micro-batch less than this may be left.
    """
    found: dict[str, int] = {}
    for one in inputs:
        if isinstance(one, FileInput) and one.source in sources:
            files = FileReader(one.config, one.root, sources[one.source])
            try:
                found[one.source] = _behind(files.files(), offsets.get(one.key))
            except (OSError, ValueError):  # gone, or not there yet: the run itself says so
                continue
    return found


def _behind(files: list[Path], offset: str | None) -> int:
    at = Resume.parse(offset).at
    place = None if at is None else Place.from_text(at)
    return sum(_left(path, place) for path in files)


def _left(path: Path, place: Place | None) -> int:
    size = path.stat().st_size
    if place is None or path.name > place.file:
        return size
    if path.name < place.file:
        return 0
    if path.suffix.lower() not in {".parquet", ".pq"}:
        return max(size - place.at, 0)
    return round(size * _rows_left(path, place))


def _rows_left(path: Path, place: Place) -> float:
    """The share of a Parquet file's rows behind a place."""
    import pyarrow.parquet as pq

    footer = pq.read_metadata(path)
    done = place.at + sum(footer.row_group(group).num_rows for group in range(place.group))
    return max(1 - done / footer.num_rows, 0.0) if footer.num_rows else 0.0
