"""Batch tables in memory: the rows of some parts, decoded and checked, in the order of their times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.app.runtime import active, card_tokens_of
from penstock.connectors.batch import batch_reader
from penstock.connectors.files import decode
from penstock.core.errors import InputError
from penstock.engine.contract import Contract, Decoded, Refused
from penstock.engine.frames import to_arrow
from penstock.engine.row_ids import RowIds
from penstock.engine.times import row_times
from penstock.kernel.columns import Columns, IntArray, Numeric, concat
from penstock.plan.compile import source_node

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.connectors.batch import BatchReader
    from penstock.definitions.batch_sources import BatchSource

READ_ROWS = 1 << 16
_FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class PartRows:
    """The rows of one part of a table.

    Attributes
    ----------
    columns, times
        What passed the contract and whose time has come.
    blocks, at
        Where each of these rows came from: which block, and which row of it.
    refused
        What did not pass, once each.
    waiting, due_us
        How many rows wait, and when the first of them is due.
    content
        A text that differs where the rows do.
    """

    columns: Columns
    times: IntArray
    blocks: tuple[Decoded, ...]
    at: IntArray
    refused: tuple[Refused, ...]
    waiting: int
    due_us: int | None
    content: str


def part_rows(
    reader: BatchReader,
    contract: Contract,
    part: str,
    *,
    until_us: int,
    stop: Event,
    row_ids: RowIds | None = None,
) -> PartRows:
    """Read a part; rows later than `until_us` wait. Reading ends early when `stop` is set. `row_ids` are for rows of the log."""
    blocks = []
    for block in reader.blocks(part, READ_ROWS):
        blocks.append(decode(contract, block))
        if stop.is_set():
            break
    blocks = blocks or [contract.decode_dicts([])]
    source = contract.source
    columns = concat([block.columns for block in blocks])
    if row_ids is not None:
        columns = row_ids.given_to(columns)
    times = row_times(columns, source)
    waits = times > until_us
    ready = np.flatnonzero(~waits)
    return PartRows(
        columns=columns.take(ready),
        times=times[ready],
        blocks=tuple(blocks),
        at=ready,
        refused=tuple(one for block in blocks for one in block.refused),
        waiting=int(waits.sum()),
        due_us=int(times[waits].min()) if waits.any() else None,
        content=_content(columns, contract),
    )


def _content(columns: Columns, contract: Contract) -> str:
    name = contract.source.id_field
    if not contract.source.is_batch:
        return str(columns.length)
    ids = columns[str(name)]
    assert isinstance(ids, Numeric)
    return f"{columns.length}:{int(ids.values.view(np.uint64).sum(dtype=np.uint64)):x}"


def in_time_order(parts: Sequence[PartRows], rows: int, *, skip: int = 0) -> Iterator[Decoded]:
    """The rows of all parts as blocks of up to `rows` in the order of time; what was refused comes first.

    The first `skip` rows are left out: whole blocks of the same parts.
    """
    refused = [one for part in parts for one in part.refused]
    if refused and not skip:
        yield _refusals(parts[0].columns, refused)
    skip = max(skip - len(refused), 0)
    columns = concat([part.columns for part in parts])
    times = np.concatenate([part.times for part in parts])
    order = np.argsort(times, kind="stable")
    bounds = np.cumsum([0, *(part.columns.length for part in parts)])
    for start in range(skip, len(order), rows):
        some = order[start : start + rows]

        def original(row: int, some: IntArray = some) -> bytes:
            place = int(np.searchsorted(bounds, some[row], "right")) - 1
            return _original(parts[place], int(some[row] - bounds[place]))

        yield Decoded(columns.take(some), np.arange(len(some)), (), original, len(some))


def _refusals(columns: Columns, refused: Sequence[Refused]) -> Decoded:
    numbered = tuple(replace(one, row=row) for row, one in enumerate(refused))
    none = columns.take(np.zeros(0, np.int64))
    return Decoded(none, np.zeros(0, np.int64), numbered, lambda row: numbered[row].payload, len(numbered))


def _original(part: PartRows, row: int) -> bytes:
    """The bytes of a row as the part's file holds them."""
    at = int(part.at[row])
    for block in part.blocks:
        if at < len(block.rows):
            return block.original(int(block.rows[at]))
        at -= len(block.rows)
    raise AssertionError("a row is in one of its part's blocks")


def with_tables(
    given: Mapping[str, Any] | None, sources: Iterable[BatchSource], *, root: Path | None = None
) -> dict[str, Any]:
    """`given` histories, with those of batch sources that are not among them read from their tables.

    Relative paths start at `root`; default: the folder of the open project, else the current folder. Raises `InputError` where a table
    cannot be read or breaks its contract.
    """
    tables = dict(given or {})
    for source in sources:
        if source.name not in tables:
            tables[source.name] = _whole(source, root or _default_root())
    return tables


def _default_root() -> Path:
    runtime = active()
    return Path.cwd() if runtime is None else runtime.project.root


def _whole(source: BatchSource, root: Path) -> pa.Table:
    import pyarrow as pa

    node = source_node(source)
    contract = Contract(node, tokens=card_tokens_of(root))
    reader = batch_reader(source.batch_config, root, node)
    parts = [part_rows(reader, contract, part, until_us=_FOREVER, stop=Event()) for part in reader.parts()]
    refused = [one for part in parts for one in part.refused]
    if refused:
        raise InputError(
            f"source {source.name!r}: {len(refused)} of its rows break the contract, the first with {refused[0].reason} "
            f"({refused[0].detail}). Correct the table, or give the history by hand."
        )
    columns = concat([part.columns for part in parts]) if parts else contract.decode_dicts([]).columns
    return pa.table({f.name: to_arrow(columns[f.name], f.dtype) for f in source.schema})
