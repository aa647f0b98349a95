"""The ways into the contract: each takes events of the corpus and returns what became of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from penstock.connectors.files import FileReader, decode
from penstock.definitions.sources import FileConfig
from penstock.engine.contract import Contract, Decoded

Verdicts = list[str | None]


def verdicts_of(decoded: Decoded) -> Verdicts:
    """The reason of each row in order, None for an accepted one; checks that every row has one verdict."""
    found: dict[int, str | None] = dict.fromkeys(decoded.rows.tolist())
    for refused in decoded.refused:
        assert refused.row not in found
        assert refused.detail
        found[refused.row] = refused.reason
    assert sorted(found) == list(range(decoded.received))
    assert decoded.columns.length == len(decoded.rows)
    return [found[row] for row in range(decoded.received)]


def through_json(contract: Contract, lines: Sequence[bytes]) -> Verdicts:
    return verdicts_of(contract.decode_json(b"\n".join(lines) + b"\n"))


def through_messages(contract: Contract, messages: Sequence[bytes]) -> Verdicts:
    return verdicts_of(contract.decode_messages(messages))


def through_dicts(contract: Contract, events: Sequence[Any]) -> Verdicts:
    return verdicts_of(contract.decode_dicts(events))


def through_csv(contract: Contract, events: Sequence[Mapping[str, Any]]) -> Verdicts:
    return verdicts_of(contract.decode_csv(csv_of(events)))


def through_table(contract: Contract, event: Mapping[str, Any]) -> Verdicts:
    return verdicts_of(contract.decode_table(table_of(event)))


def through_file(contract: Contract, path: Any, file_format: str, rows: int) -> Verdicts:
    reader = FileReader(FileConfig(path.name, file_format), path.parent, contract.source)
    return [v for block, _ in reader.batches(None, rows) for v in verdicts_of(decode(contract, block))]


def csv_of(events: Sequence[Mapping[str, Any]]) -> bytes:
    """The events as CSV: null is an empty cell, the empty text is ``""``."""
    names = list(dict.fromkeys(name for event in events for name in event))
    lines = [",".join(names), *(",".join(_cell(event.get(name)) for name in names) for event in events)]
    return "\n".join(lines).encode() + b"\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return str(value)
    if value == "":
        return '""'
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([value])
    return out.getvalue()


def table_of(event: Mapping[str, Any]) -> pa.Table:
    """One event as a table, each column of the type that Arrow infers; raises where Arrow cannot hold a value."""
    columns = {name: pa.array([value]) for name, value in event.items()}
    return pa.table(columns) if columns else pa.table({"other": [1]})
