"""The local engine: events in, durable decisions out, one transaction a micro-batch.

A micro-batch is decoded (`contract`), goes through a step (`step`), and its effects are committed. While a commit is on its way
to the disk the next micro-batch may be computed; nothing is answered before its own commit is durable. If a step or a commit
fails, memory is ahead of the disk: the engine stops and is opened again from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import InputError, StoreError
from penstock.core.records import Commit, LabelRecords
from penstock.engine.assembly import LookedUp
from penstock.engine.card_numbers import CardTokens
from penstock.engine.contract import Contract, Decoded
from penstock.engine.effects import NO_CHANGES, LetterChanges, Outcome
from penstock.engine.features import FeatureState
from penstock.engine.instant import Fold
from penstock.engine.lookup import RowReader
from penstock.engine.online import AT
from penstock.engine.ports import EngineStore, EventIdIndex
from penstock.engine.recovery import encode_state
from penstock.engine.step import Input, Routes, Stepped, Stepper
from penstock.kernel.columns import Columns, IntArray
from penstock.plan.nodes import Plan, ServiceNode, SourceNode

T = TypeVar("T")
_DONE: Future[None] = Future()
_DONE.set_result(None)


class Processed(msgspec.Struct, frozen=True, eq=False):
    """The outcomes of a micro-batch, one an input, and when they are durable.

    `counters` are what the micro-batch added to the store's totals; `labels` those joined to their events, new and
    corrected ones.
    """

    outcomes: tuple[Outcome, ...]
    committed: Future[None]
    counters: Mapping[str, int] = msgspec.field(default_factory=dict)
    labels: LabelRecords | None = None

    def wait(self) -> Processed:
        """Return when everything is durable; raises `StoreError` where it could not be stored."""
        self.committed.result()
        return self


class LocalEngine:
    """Runs a plan over a store. One thread at a time may process; `look_up` is safe beside it.

    Parameters
    ----------
    plan, store, ids, clock
        What to run, where it becomes durable, the index of event ids, the time.
    features
        The state at `store.next_position`; see `penstock.engine.recovery`.
    routes
        The arms in force, by endpoint; asked once a micro-batch, so that they may be swapped at any time.
    live
        Whether events ahead of the clock are refused.
    tokens
        What takes the place of card numbers, where a source asks for that.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        store: EngineStore,
        ids: EventIdIndex,
        clock: Clock,
        features: FeatureState,
        routes: Routes,
        live: bool = True,
        tokens: CardTokens | None = None,
    ) -> None:
        self.tokens = tokens
        self._store = store
        self._ids = ids
        self._clock = clock
        self._live = live
        self.covered: dict[str, int] = {}
        """Up to which time (µs) a history was loaded, by source; of streams without ids older events are refused."""
        self._take(plan, features, routes)
        self._turn = Lock()  # the state is moved, or read, by one thread at a time
        self._writer = ThreadPoolExecutor(1, "penstock-commit")
        self._inflight: tuple[int, Future[None]] = (store.next_position, _DONE)
        self._labels_inflight = False
        self._failed: BaseException | None = None
        self._closed = False
        self.commit_s = 0.0
        """How long the newest transaction took."""

    def _take(self, plan: Plan, features: FeatureState, routes: Routes) -> None:
        self.plan = plan
        self.rows = RowReader(self._store, plan.sources)
        self._label_sources = frozenset(name for name, s in plan.sources.items() if s.label_of is not None)
        self._contracts = {name: self.contract(source) for name, source in plan.sources.items()}
        self._stepper = Stepper(
            features,
            store=self._store,
            ids=self._ids,
            rows=self.rows,
            routes=routes,
            settle=self._settle,
            covered=self.covered,
        )

    @property
    def features(self) -> FeatureState:
        """The state of all views at `position`."""
        return self._stepper.features

    @property
    def position(self) -> int:
        """The length of the log once everything under way is committed."""
        return self._stepper.position

    @property
    def stopped(self) -> bool:
        """Whether an error stopped it: memory is then ahead of the disk, and must not be kept."""
        return self._failed is not None

    def contract(self, source: SourceNode) -> Contract:
        """What decodes and checks the events of `source`, for readers of files."""
        return Contract(source, tokens=self.tokens)

    def decode(self, source: str, events: bytes | Sequence[Mapping[str, Any]]) -> Decoded:
        """Decode and check events of `source`: NDJSON bytes or dicts."""
        contract = self._contracts[source]
        return contract.decode_json(events) if isinstance(events, bytes) else contract.decode_dicts(events)

    def process(
        self,
        inputs: Sequence[Input],
        *,
        by_time: bool = False,
        decide: bool = True,
        offsets: Mapping[str, str] | None = None,
        overlap: bool = True,
        letters: LetterChanges = NO_CHANGES,
    ) -> Processed:
        """Process one micro-batch.

        Parameters
        ----------
        inputs
            ``(source, decoded events)``; each source at most once.
        by_time
            Interleave the inputs by event time instead of taking one after another; at equal times labels come first.
        decide
            Whether endpoints decide on the events. Without, they are history, loaded before the first decision: logged,
            counted as such, and part of the features of later events.
        offsets
            Where the sources' readers go on; committed with the batch.
        overlap
            Whether to return while the commit is on its way to the disk, so that the next micro-batch can be computed;
            without it, everything is durable on return.
        letters
            Which rows are another attempt at a dead letter, and which letters are dropped.
        """
        stepped = self.step(inputs, by_time=by_time, decide=decide, offsets=offsets)
        commit = stepped.effects(self.plan, letters)
        committed = self._submit(commit, overlap=overlap)
        return Processed(stepped.outcomes, committed, commit.counters, commit.labels)

    def step(
        self,
        inputs: Sequence[Input],
        *,
        by_time: bool = False,
        decide: bool = True,
        offsets: Mapping[str, str] | None = None,
    ) -> Stepped:
        """The computation of `process` alone: moves the state, commits nothing."""
        self._check_running()
        sources = [source for source, _ in inputs]
        if len(sources) > 1 and len(set(sources)) < len(sources):
            raise InputError(
                f"engine: the sources of a micro-batch are {', '.join(sources)}; allowed is each once. Join their events, or "
                "process them one after another."
            )
        if self._labels_inflight or not self._label_sources.isdisjoint(sources):
            self.flush()
        try:
            with self._turn:
                return self._stepper.step(
                    inputs,
                    now_us=self._clock.now_us(),
                    live=self._live,
                    by_time=by_time,
                    decide=decide,
                    offsets=offsets or {},
                )
        except BaseException as error:
            self._failed = error
            raise

    def encoded(self) -> tuple[int, bytes]:
        """The length of the log and the state of all views as bytes, at one moment; see `encode_state`."""
        with self._turn:
            return self._stepper.position, encode_state(self._stepper.features)

    def at_rest(self, read: Callable[[FeatureState], T]) -> tuple[int, T]:
        """What `read` makes of the state between two micro-batches, and the length of the log then; the engine waits for it.

        The last of it may not be durable yet: it is when the store is as long.
        """
        with self._turn:
            self._check_running()
            return self._stepper.position, read(self._stepper.features)

    def look_up(
        self, plan: Plan, service: ServiceNode, columns: Columns
    ) -> tuple[int, LookedUp, IntArray] | None:
        """See `penstock.engine.ports.OnlineStore`: the engine's own state is the embedded online store."""
        with self._turn:
            self._check_running()
            if plan is not self.plan:
                return None
            rows, newest = self._stepper.features.look_up(service, columns, AT)
            return self._stepper.position, rows, newest

    def adopt(self, plan: Plan, fold: Fold, routes: Routes) -> None:
        """Go on with another plan between two micro-batches, with the state that it would have had from the start.

        `fold` has come close to the end of the log; what is missing is folded here.
        """
        with self._turn:
            self._check_running()
            self.flush()
            self._take(plan, fold.finish(self._stepper.position, self._stepper.features), routes)

    @property
    def is_committing(self) -> bool:
        """Whether something is under way that is not durable yet: `flush` would wait."""
        return not self._inflight[1].done()

    def flush(self) -> None:
        """Wait until everything under way is durable."""
        self._inflight[1].result()

    def close(self) -> None:
        """Finish what is under way; nothing can be processed afterwards."""
        self._writer.shutdown(wait=True)
        self._closed = True

    def _check_running(self) -> None:
        if self._failed is not None:
            raise StoreError(
                f"engine: it stopped after an error ({self._failed}). Mend the cause and open the project again; what was "
                "acknowledged is safe, and state is recovered from the log."
            ) from self._failed
        if self._closed:
            raise StoreError("engine: it is closed. Open the project again.")

    def _settle(self, position: int) -> None:
        if position >= self._inflight[0]:
            self.flush()

    def _submit(self, commit: Commit, *, overlap: bool) -> Future[None]:
        if self._inflight[1] is not _DONE:
            self.flush()
        self._labels_inflight = False
        if not overlap:
            self._write(commit)
            self._inflight = (self.position, _DONE)
            self._tidy_beside()
            return _DONE
        start = self.position - sum(len(batch.positions) for batch in commit.log)
        future = self._writer.submit(self._write, commit)
        self._tidy_beside()
        self._inflight = (start, future)
        self._labels_inflight = any(batch.source in self._label_sources for batch in commit.log)
        return future

    def _write(self, commit: Commit) -> None:
        began = perf_counter()
        try:
            self._store.commit(commit)
        except BaseException as error:
            self._failed = error
            raise
        self.commit_s = perf_counter() - began

    def _tidy_beside(self) -> None:
        """Let the committing thread tidy the store where that is due: who waits for a commit does not wait for that."""
        if self._store.is_untidy:
            self._writer.submit(self._tidy)

    def _tidy(self) -> None:
        try:
            self._store.tidy()
        except BaseException as error:
            self._failed = error
            raise
