"""Batch tables as inputs of a run: read when due, in the order of time, each row once.

1. A table is looked at when the run starts and then on its schedule; parts that have not changed are not read.
2. Rows whose time has not come wait: their part is read again when it has.
3. The rows of all changed parts are put in the order of their times and come as blocks, to be merged with other sources.
4. The offset behind the last block says which parts were read. It is committed with that block's rows, and until then
   the former one stands: after a crash the parts are read again, and the log knows by their ids the rows that it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.app.batch_tables import PartRows, in_time_order, part_rows
from penstock.app.change_inputs import ChangeInput, change_input
from penstock.connectors.batch import ALWAYS, batch_reader
from penstock.core.clock import Clock
from penstock.core.cron import Cron
from penstock.core.errors import InputError, StoreError
from penstock.core.time import to_us
from penstock.definitions.batch_configs import BatchConfig, ByHand
from penstock.definitions.batch_views import schedules
from penstock.definitions.postgres_configs import PostgresChangesConfig

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.engine.contract import Contract, Decoded
    from penstock.engine.row_ids import RowIds

RETRY_US = 60_000_000
"""How long a running project waits before it looks again at a table that could not be read."""

Due = Callable[[int], int]
"""When to look again, from the time of the last look."""


class Place(NamedTuple):
    """What was read of a part: its version, and how many rows wait in it until when the first of them is due."""

    version: str
    due_us: int | None = None
    waiting: int = 0


Places = dict[str, Place]


@dataclass(slots=True)
class BatchInput:
    """The rows of a batch source.

    Parameters
    ----------
    source, config, root
        Whose rows they are, and where they lie.
    clock, due
        The time, and when to look again.
    row_ids
        By source what gives its rows their ids.
    problems
        Where it is noted that a later look failed; at the first one the error is raised.
    """

    source: str
    config: BatchConfig
    root: Path
    clock: Clock
    row_ids: Callable[[str], RowIds]
    due: Sequence[Due] = ()
    problems: dict[str, str] = field(default_factory=dict)
    waiting: int = 0
    """How many rows wait for their time."""
    _next_us: int | None = None

    @property
    def key(self) -> str:
        """See `Input.key`."""
        return f"{self.source}:batch"

    def read(
        self, contract: Contract, offset: str | None, *, rows: int, final: bool, stop: Event
    ) -> Iterator[tuple[Decoded, str | None]]:
        """See `Input.read`: what is due now."""
        now_us = self.clock.now_us()
        if self._next_us is not None and now_us < self._next_us:
            return
        try:
            known = parse_places(offset)
            parts, places = self._changed(contract, known, now_us, stop)
        except InputError as error:
            if final or self._next_us is None:
                raise
            self.problems[self.source] = str(error)
            self._next_us = now_us + RETRY_US
            return
        self.problems.pop(self.source, None)
        if not stop.is_set():
            self._plan_next(places, now_us)
            yield from _blocks(parts, contract, rows, before=offset, after=places, known=known)

    def read_again(self) -> None:
        """Let the next `read` look at the table whatever the schedule says: what it gave was not used up."""
        self._next_us = None

    def _changed(
        self, contract: Contract, known: Places, now_us: int, stop: Event
    ) -> tuple[list[PartRows], Places]:
        """The rows of the parts that may hold new ones, and the places behind them."""
        found, places = [], {}
        reader = batch_reader(self.config, self.root, contract.source)
        row_ids = self.row_ids(self.source)
        for part, version in reader.parts().items():
            if part in known and version != ALWAYS and not _is_due(known[part], version, now_us):
                places[part] = known[part]
                continue
            rows = part_rows(reader, contract, part, until_us=now_us, stop=stop, row_ids=row_ids)
            known_by = version if version != ALWAYS else rows.content
            places[part] = Place(known_by, rows.due_us, rows.waiting)
            if version != ALWAYS or part not in known or _is_due(known[part], rows.content, now_us):
                found.append(rows)
        self.waiting = sum(place.waiting for place in places.values())
        return found, places

    def _plan_next(self, places: Places, now_us: int) -> None:
        waiting = [place.due_us for place in places.values() if place.due_us is not None]
        self._next_us = min([when(now_us) for when in self.due] + waiting, default=np.iinfo(np.int64).max)


def batch_inputs(
    runtime: Runtime, given: Mapping[str, BatchConfig] | None = None
) -> list[BatchInput | ChangeInput]:
    """The inputs of all batch sources of the plan, from where their configs say or from where `given` says."""
    project = runtime.project
    found: list[BatchInput | ChangeInput] = []
    for name, node in runtime.plan.sources.items():
        if node.is_batch:
            config = (given or {}).get(name) or project.batch_sources[name].batch_config
            if isinstance(config, ByHand):
                continue
            if isinstance(config, PostgresChangesConfig):
                found.append(change_input(runtime, name, config))
                continue
            due = [due_after(schedule, owner=name) for schedule in schedules(project.views, name)]
            found.append(
                BatchInput(
                    name,
                    config,
                    project.root,
                    runtime.clock,
                    runtime.row_ids,
                    due=due,
                    problems=runtime.problems,
                )
            )
    return found


def due_after(schedule: timedelta | str, *, owner: str) -> Due:
    """When a schedule is due again."""
    if isinstance(schedule, str):
        return Cron.parse(schedule, owner=owner).next_us
    return to_us(schedule).__add__


def parse_places(text: str | None) -> Places:
    """The places of an offset; raises `StoreError` for a text that this version does not write."""
    try:
        found = json.loads(text or "{}")
        return {part: Place(*place) for part, place in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(
            f"offset {str(text)[:80]!r}: it is not one that this version writes. Upgrade Penstock, or start a new project."
        ) from error


def _is_due(place: Place, version: str, now_us: int) -> bool:
    return place.version != version or (place.due_us is not None and place.due_us <= now_us)


def _blocks(
    parts: Sequence[PartRows],
    contract: Contract,
    rows: int,
    *,
    before: str | None,
    after: Places,
    known: Places,
) -> Iterator[tuple[Decoded, str | None]]:
    """The rows with the offsets behind them: the new one comes with the last block."""
    behind = json.dumps(after)
    blocks = in_time_order(parts, rows) if parts else iter(())
    held = next(blocks, None)
    for block in blocks:
        yield held, before  # type: ignore[misc]
        held = block
    if held is not None:
        yield held, behind
    elif after != known:
        yield contract.decode_dicts([]), behind
