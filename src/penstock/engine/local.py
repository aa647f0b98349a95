"""The local engine: events in, durable decisions out, one transaction a micro-batch.

A micro-batch is decoded (`contract`), goes through a step (`step`), and its effects are committed. While a commit is on its way
to the disk the next micro-batch may be computed; nothing is answered before its own commit is durable. If a step or a commit
fails, memory is ahead of the disk: the engine stops and is opened again from the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from penstock.core.clock import Clock
from penstock.core.errors import InputError, StoreError
from penstock.core.records import Commit, LabelRecords
from penstock.engine.contract import Contract, Decoded
from penstock.engine.effects import Outcome
from penstock.engine.features import FeatureState
from penstock.engine.lookup import RowReader
from penstock.engine.ports import EngineStore, EventIdIndex
from penstock.engine.step import Input, Scorers, Stepped, Stepper
from penstock.plan.nodes import Plan

_DONE: Future[None] = Future()
_DONE.set_result(None)


@dataclass(frozen=True, slots=True, eq=False)
class Processed:
    """The outcomes of a micro-batch, one an input, and when they are durable.

    `counters` are what the micro-batch added to the store's totals; `labels` those joined to their events, new and
    corrected ones.
    """

    outcomes: tuple[Outcome, ...]
    committed: Future[None]
    counters: Mapping[str, int] = field(default_factory=dict)
    labels: LabelRecords | None = None

    def wait(self) -> Processed:
        """Return when everything is durable; raises `StoreError` where it could not be stored."""
        self.committed.result()
        return self


class LocalEngine:
    """Runs a plan over a store. Not for several threads at once.

    Parameters
    ----------
    plan, store, ids, clock
        What to run, where it becomes durable, the index of event ids, the time.
    features
        The state at `store.next_position`; see `penstock.engine.recovery`.
    scorers
        The model in production, by endpoint; called once a micro-batch, so that it may be swapped at any time.
    live
        Whether events ahead of the clock are refused.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        store: EngineStore,
        ids: EventIdIndex,
        clock: Clock,
        features: FeatureState,
        scorers: Scorers,
        live: bool = True,
    ) -> None:
        self.plan = plan
        self.rows = RowReader(store, plan.sources)
        self._store = store
        self._clock = clock
        self._live = live
        self._contracts = {name: Contract(source) for name, source in plan.sources.items()}
        self._stepper = Stepper(
            features, store=store, ids=ids, rows=self.rows, scorers=scorers, settle=self._settle
        )
        self.covered = self._stepper.covered
        """Up to which time (µs) a history was loaded, by source; of streams without ids older events are refused."""
        self._writer = ThreadPoolExecutor(1, "penstock-commit")
        self._inflight: tuple[int, Future[None]] = (store.next_position, _DONE)
        self._labels_inflight = False
        self._failed: BaseException | None = None
        self._closed = False

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
        """
        stepped = self.step(inputs, by_time=by_time, decide=decide, offsets=offsets)
        commit = stepped.effects(self.plan)
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
        if len(set(sources)) < len(sources):
            raise InputError(
                f"engine: the sources of a micro-batch are {', '.join(sources)}; allowed is each once. Join their events, or "
                "process them one after another."
            )
        if self._labels_inflight or any(self._is_label(source) for source, _ in inputs):
            self.flush()
        try:
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

    def _is_label(self, source: str) -> bool:
        return self.plan.sources[source].label_of is not None

    def _settle(self, position: int) -> None:
        if position >= self._inflight[0]:
            self.flush()

    def _submit(self, commit: Commit, *, overlap: bool) -> Future[None]:
        self.flush()
        self._labels_inflight = False
        if not overlap:
            self._write(commit)
            self._inflight = (self.position, _DONE)
            return _DONE
        start = self.position - sum(len(batch.positions) for batch in commit.log)
        future = self._writer.submit(self._write, commit)
        self._inflight = (start, future)
        self._labels_inflight = any(self._is_label(batch.source) for batch in commit.log)
        return future

    def _write(self, commit: Commit) -> None:
        try:
            self._store.commit(commit)
        except BaseException as error:
            self._failed = error
            raise
        self._store.tidy()
