"""The batch history of a stream: what happened before its first live event, from the table that its `batch_config` names.

It enters the log once, in the order of time, as history without decisions, before the first event of the stream. A stream
with event ids may begin anywhere: what the history has as well is a duplicate. Without ids time is all there is: events up
to the newest row of the history are refused as ``in_history``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from threading import Event
from typing import TYPE_CHECKING

from penstock.app.batch_inputs import batch_inputs
from penstock.app.batch_tables import in_time_order, part_rows
from penstock.app.running import Runner, Watch
from penstock.connectors.batch import BatchReader, batch_reader
from penstock.core.clock import Clock
from penstock.core.errors import InputError, StoreError
from penstock.plan.nodes import SourceNode

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.engine.contract import Contract, Decoded

_SUFFIX = ":history"


@dataclass(frozen=True, slots=True)
class Loaded:
    """How far a history is loaded: from which parts, how many rows, the newest time among them, and whether that is all."""

    parts: dict[str, str]
    rows: int = 0
    until_us: int | None = None
    done: bool = False

    @classmethod
    def parse(cls, text: str | None) -> Loaded | None:
        """The place of an offset, None where there is none; raises `StoreError` for a text of another version."""
        if text is None:
            return None
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"offset {text[:80]!r}: it is not one that this version writes. Upgrade Penstock, or start a new project."
            ) from error

    def to_text(self) -> str:
        """The place as JSON."""
        return json.dumps(asdict(self))


@dataclass(slots=True)
class HistoryInput:
    """The history of a stream as an input; see `penstock.app.inputs.Input`."""

    node: SourceNode
    reader: BatchReader
    clock: Clock

    @property
    def source(self) -> str:
        """See `Input.source`."""
        return self.node.name

    @property
    def key(self) -> str:
        """See `Input.key`."""
        return f"{self.node.name}{_SUFFIX}"

    def read(
        self,
        contract: Contract,
        offset: str | None,
        *,
        rows: int,
        final: bool,  # noqa: ARG002 - a history ends
        stop: Event,
    ) -> Iterator[tuple[Decoded, str | None]]:
        """See `Input.read`; the block behind which all is loaded says so."""
        versions = self.reader.parts()
        place = Loaded.parse(offset) or Loaded(versions)
        if place.parts != versions:
            raise InputError(
                f"source {self.source!r}: the history that its batch_config names changed while it was being loaded; allowed is "
                "the same table until it is loaded. Put it back, or start a new project."
            )
        now_us = self.clock.now_us()
        parts = [part_rows(self.reader, contract, name, until_us=now_us, stop=stop) for name in versions]
        if stop.is_set():
            return
        newest = max((int(part.times.max()) for part in parts if len(part.times)), default=None)
        place = replace(place, until_us=newest)
        total = sum(len(part.refused) + part.columns.length for part in parts)
        for block in in_time_order(parts, rows, skip=place.rows) if parts else ():
            reached = place.rows + block.received
            place = replace(place, rows=reached, done=reached == total)
            yield block, place.to_text()
        if not place.done:
            yield contract.decode_dicts([]), replace(place, done=True).to_text()


def load_histories(runtime: Runtime, *, stop: Event, watch: Watch | None = None) -> bool:
    """Load the histories of all streams that have one and no events yet; whether there were any.

    Batch tables are read along with them, so that rows of all enter in the order of time.
    """
    inputs = [one for one in _histories(runtime) if _is_to_load(runtime, one)]
    if not inputs:
        return False
    Runner(runtime, [*batch_inputs(runtime), *inputs], stop=stop, watch=watch, decide=False).run()
    runtime.note_histories()
    return True


def _histories(runtime: Runtime) -> Iterator[HistoryInput]:
    for name, node in runtime.plan.sources.items():
        source = runtime.project.sources.get(name)
        if source is not None and source.batch_config is not None:
            yield HistoryInput(
                node, batch_reader(source.batch_config, runtime.project.root, node), runtime.clock
            )


def _is_to_load(runtime: Runtime, one: HistoryInput) -> bool:
    place = _reached(runtime.store.offsets().get(one.key))
    if place is not None:
        return not place.done
    if next(iter(runtime.store.read_log(sources={one.source})), None) is None:
        return True
    runtime.problems[one.source] = (
        f"source {one.source!r}: its history is not loaded, since the log holds events of it already and history comes before "
        "them. Start a new project with it, or take batch_config out."
    )
    return False


def covered_by_history(offsets: dict[str, str]) -> dict[str, int]:
    """Up to which time the loaded histories reach, by source."""
    found = {}
    for key, text in offsets.items():
        place = _reached(text) if key.endswith(_SUFFIX) else None
        if place is not None and place.done and place.until_us is not None:
            found[key.removesuffix(_SUFFIX)] = place.until_us
    return found


def _reached(text: str | None) -> Loaded | None:
    """The place in a run's offset, which also says how many rows behind it are done."""
    if text is None:
        return None
    at, skip = json.loads(text)
    place = Loaded.parse(at) or Loaded({})
    return replace(place, done=place.done and not skip)
