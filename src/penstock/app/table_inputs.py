"""Tables of PostgreSQL whose rows are the events or labels of streams, as inputs of a run.

Pages are fetched by a thread, one ahead, so that a slow or silent server holds nothing else up. The offset behind each row is a place of its
own (`penstock.connectors.table_places`), committed with the row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TYPE_CHECKING

from penstock.app.merging import RowOffsets
from penstock.connectors.postgres_rows import Page, TableRows
from penstock.connectors.table_places import TablePlace
from penstock.core.errors import InputError, PenstockError, UnreachableError
from penstock.definitions.postgres_stream_configs import PostgresStreamConfig

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.definitions.sources import LabelSource, StreamSource
    from penstock.engine.contract import Contract, Decoded

PATIENCE_S = 0.5
"""How long a live run waits for a page where there is more, so that what was piled up is merged with other sources by event time."""
SILENT_S = 5.0
"""After how long without an answer a live run says so."""
AGAIN_S = 2.0
FINAL_S = 30.0
"""How long a run that shall read to the end waits for a server that is away."""
ANSWER_S = 150.0
"""How long such a run waits for a page: a little more than the server itself takes at most."""
_WAIT_S = 0.1
_SLOW = 5
"""A table is looked at again after so many times what the last look took, if that is longer than its interval."""


@dataclass(slots=True, eq=False)
class TableInput:
    """The rows of a table.

    Parameters
    ----------
    source, config
        Whose events they are, and where they lie.
    problems
        Where it is noted, under the source, that the server is away, or that rows cannot be read. A table that is not as it must be is an error at
        the first look.
    """

    source: str
    config: PostgresStreamConfig
    problems: dict[str, str] = field(default_factory=dict)
    now_s: Callable[[], float] = time.monotonic
    _rows: TableRows | None = None
    _offset: str | None = None
    _place: TablePlace | None = None
    _asked: _Asked | None = None
    _more: bool = False
    _worked: bool = False
    _next_s: float = 0.0
    _began_s: float | None = None

    @property
    def key(self) -> str:
        """See `Input.key`."""
        return f"{self.source}:table"

    def read(
        self, contract: Contract, offset: str | None, *, rows: int, final: bool, stop: Event
    ) -> Iterator[tuple[Decoded, RowOffsets]]:
        """See `Input.read`."""
        if self._rows is not None and self._rows.source != contract.source:
            self.close()  # its schema has changed
            self._go_to(offset)
        elif offset is None or offset != self._offset:
            self._go_to(offset)
        while not stop.is_set():
            page = self._page(contract, rows, final=final, stop=stop)
            if page is None:
                return
            self._place, self._more, self._worked = page.place, page.more, True
            self._tell(page.note)
            if page.more:
                self._ask(contract, rows)
            if page.lines:
                self._offset = page.place.to_text()
                yield contract.decode_messages(page.lines), RowOffsets(self._offset, page.offset_after)
            if not page.more:
                self._rest()
                return

    def close(self) -> None:
        """End the connection; the next reading makes another."""
        rows, asked = self._rows, self._asked
        self._rows = self._asked = None
        if rows is not None and asked is not None:
            asked.page.add_done_callback(lambda _: rows.close())  # a connection is its thread's until then
        elif rows is not None:
            rows.close()

    def _go_to(self, offset: str | None) -> None:
        """Read from `offset` on, whatever was read ahead."""
        self._place = None if offset is None else TablePlace.from_text(offset)
        self._offset, self._more = offset, False

    def _page(self, contract: Contract, rows: int, *, final: bool, stop: Event) -> Page | None:
        """The next page; None where there is none now."""
        give_up_s = self.now_s() + FINAL_S
        while not stop.is_set():
            if not final and self._asked is None and self.now_s() < self._next_s:
                return None
            asked = self._ask(contract, rows)
            try:
                if not self._wait(asked, final=final, stop=stop):
                    return None
                self._asked = None
                if asked.place == self._place:
                    return asked.page.result()
            except PenstockError as error:
                self._asked = None
                self._failed(error, raises=final and self.now_s() >= give_up_s, final=final)
                if final:
                    stop.wait(_WAIT_S)
                else:
                    return None
        return None

    def _ask(self, contract: Contract, rows: int) -> _Asked:
        """The page that is being fetched, or one that is from now on."""
        if self._asked is None:
            if self._rows is None:
                self._rows = TableRows(self.config, contract.source)
            if not self._more:
                self._began_s = self.now_s()
            self._asked = _Asked.begun(self._rows, self._place, rows, go_on=self._more, now_s=self.now_s())
        return self._asked

    def _wait(self, asked: _Asked, *, final: bool, stop: Event) -> bool:
        """Whether the page is there, or why it is not."""
        patience_s = ANSWER_S if final else PATIENCE_S if self._more or not self._worked else 0.0
        if not final and self.now_s() > asked.at_s + SILENT_S:
            patience_s = 0.0
        until_s = self.now_s() + patience_s
        while not asked.page.done() and self.now_s() < until_s and not stop.is_set():
            try:
                asked.page.exception(min(_WAIT_S, until_s - self.now_s()))
            except NotYetError:
                continue
        if asked.page.done():
            return True
        if final and not stop.is_set():
            self.close()
            raise UnreachableError(self._silent(ANSWER_S))
        if self.now_s() > asked.at_s + SILENT_S:
            self.problems[self.source] = self._silent(SILENT_S)
        return False

    def _silent(self, seconds: float) -> str:
        return (
            f"source {self.source!r}: the database of {self.config.table} has not answered for {seconds:g} s. Check that it runs, and what holds "
            "its locks; reading goes on where it stands."
        )

    def _failed(self, error: PenstockError, *, raises: bool, final: bool) -> None:
        """Note why there is no page, or raise it where waiting would not help."""
        away = isinstance(error, UnreachableError)
        if (
            not (away or isinstance(error, InputError))
            or raises
            or (not away and (final or not self._worked))
        ):
            self.close()
            raise error
        self.problems[self.source] = str(error)
        self._more, self._next_s = False, self.now_s() + AGAIN_S

    def _tell(self, note: str) -> None:
        if note:
            self.problems[self.source] = note
        else:
            self.problems.pop(self.source, None)

    def _rest(self) -> None:
        """Let the table alone until its interval is over."""
        took_s = 0.0 if self._began_s is None else self.now_s() - self._began_s
        self._next_s = (self._began_s or self.now_s()) + max(
            self.config.interval.total_seconds(), _SLOW * took_s
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A page that is being fetched: behind which place, since when."""

    place: TablePlace | None
    page: Future[Page]
    at_s: float

    @classmethod
    def begun(
        cls, table: TableRows, place: TablePlace | None, rows: int, *, go_on: bool, now_s: float
    ) -> _Asked:
        """Begin to fetch; the thread ends with the process, whatever the server does."""
        page: Future[Page] = Future()

        def fetch() -> None:
            try:
                page.set_result(table.page(place, rows, go_on=go_on))
            except BaseException as error:  # noqa: BLE001 - it is raised where the page is asked for
                page.set_exception(error)

        Thread(target=fetch, name="penstock-table", daemon=True).start()
        return cls(place, page, now_s)


def table_inputs(runtime: Runtime) -> list[TableInput]:
    """The tables of all streams and label sources of the plan that lie in one."""
    definitions: dict[str, StreamSource | LabelSource] = {
        **runtime.project.sources,
        **runtime.project.label_sources,
    }
    configs = {name: definitions[name].stream_config for name in runtime.plan.sources if name in definitions}
    return [
        TableInput(name, config, runtime.problems)
        for name, config in configs.items()
        if isinstance(config, PostgresStreamConfig)
    ]
