"""Running a project over its files: read, decode, process with the commit overlapping, until the end or a stop.

Offsets are committed with the events that they stand behind, so that a run that ended anyhow - drained, killed, or cut
off from power - goes on exactly where it was.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING

from penstock.app.adopting import Adoption
from penstock.app.answering import Answering
from penstock.app.batch_inputs import BatchInput
from penstock.app.change_inputs import ChangeInput
from penstock.app.guarding import GuardWatch
from penstock.app.kafka_inputs import KafkaInput
from penstock.app.merging import Feed, Resume, by_source, merged, next_parts
from penstock.app.route_watch import RouteWatch
from penstock.app.table_inputs import TableInput
from penstock.monitoring.live import LiveMetrics, LiveSummary

if TYPE_CHECKING:
    from concurrent.futures import Future

    from penstock.app.inputs import Input
    from penstock.app.merging import Part
    from penstock.app.runtime import Runtime
    from penstock.app.stage_inputs import StageInput
    from penstock.engine.local import Processed

POLL_S = 0.2
"""How long `follow` waits before it looks for appended lines again."""

SERVING_ROWS = 1024
"""Most rows of a file in one micro-batch where requests may wait for its end."""

TELL_S = 0.1
"""How often the live metrics are shown at most."""

SWITCH_S = 0.0005
"""How long a thread may hold the interpreter while another waits: Python's own 5 ms would be most of the time until a decision."""

Watch = Callable[[LiveSummary], None]

Observe = Callable[["Processed", float], None]


def short_turns() -> None:
    """Let the threads of this process take short turns, where answers or other workers wait for them."""
    sys.setswitchinterval(SWITCH_S)


@dataclass(slots=True)
class Stop:
    """Whether and by which signal a run was asked to end; `event` is set then."""

    event: Event
    signal_number: int = 0

    @property
    def asked(self) -> bool:
        """Whether to end after the micro-batch under way."""
        return self.event.is_set()


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """While open, the first SIGTERM or SIGINT asks to drain; a second one ends the process as ever.

    Ending at once is safe: what was acknowledged is durable.
    """
    stop = Stop(Event())
    wanted = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in wanted}

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the system's signature
        stop.signal_number = number
        stop.event.set()
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in wanted:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class _Pass:
    """How many micro-batches a pass over the inputs had, and whether it ended before them."""

    batches: int
    interrupted: bool


class Runner:
    """Feeds a runtime from inputs.

    Parameters
    ----------
    runtime
        The open project.
    inputs
        What to read; several are merged in the order of event time.
    stop
        Set to end after the micro-batch under way.
    watch
        Called with the live metrics after micro-batches, at most every `TELL_S`.
    decide
        Whether endpoints decide; without, what is read is history.
    observe
        Called with each micro-batch that was processed and when it was begun, in the engine's thread.
    answering
        Requests that are served between two micro-batches of the inputs, while `follow` runs.
    stage
        A stage before, in place of `inputs`; read by `step`.
    beside
        Gives more to be kept with the offsets of each micro-batch.
    """

    def __init__(
        self,
        runtime: Runtime,
        inputs: Sequence[Input],
        *,
        stop: Event,
        watch: Watch | None = None,
        decide: bool = True,
        observe: Observe | None = None,
        answering: Answering | None = None,
        stage: StageInput | None = None,
        beside: Callable[[], Mapping[str, str]] = dict,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._stop = stop
        self._watch = watch
        self._decide = decide
        self._observe = observe
        self._answering = answering
        self._stage = stage
        self._beside = beside
        self._now_s = now_s
        self._offsets: dict[str, str] = dict(runtime.store.offsets())
        self._adoption = Adoption(runtime, now_s=now_s)
        self._topics = [one for one in inputs if isinstance(one, KafkaInput)]
        self._lasting: list[Feed] | None = None
        self._arrived = Event()
        self._durable: deque[tuple[float, float]] = deque()
        self._told_s = -inf
        self.metrics = LiveMetrics(now_s(), default_action=_default_action(runtime))

    def run(self) -> LiveSummary:
        """Process what the inputs hold, to their end or until stopped; returns when everything is durable."""
        with RouteWatch(self._runtime), GuardWatch(self._runtime):
            while self._pass(final=True).interrupted and not self._stop.is_set():
                pass
        return self._finish()

    def follow(self, *, poll_s: float = POLL_S) -> LiveSummary:
        """Process what the inputs hold and what is appended to them, until stopped."""
        for one in self._topics:
            one.reader.tell(self._wake)
        with RouteWatch(self._runtime), GuardWatch(self._runtime):
            while not self._stop.is_set():
                if not self._pass(final=False).batches:
                    self._answer()
                    self._runtime.engine.flush()
                    self._tell()
                    self._wait(poll_s)
            if self._answering is not None:
                self._answering.drain(self._note)
        return self._finish()

    def step(self) -> bool:
        """Process the next micro-batch of the topics or the stage that are its inputs; whether there was one."""
        if self._adopt():
            self._lasting = None
        if self._stage is not None:
            found = self._stage.step(self._offsets)
            if found is not None:
                self._process(*found)
            return found is not None and bool(found[0])
        if self._lasting is None:
            self._lasting = [self._lasting_feed(i, one) for i, one in enumerate(self._topics)]
        parts = next_parts(self._lasting)
        if parts is not None:
            self._process(parts, _offsets(parts))
        return parts is not None

    def finish(self) -> LiveSummary:
        """Wait until what was processed is durable."""
        return self._finish()

    @property
    def offsets(self) -> dict[str, str]:
        """Up to where each input was processed, by its key."""
        return dict(self._offsets)

    def summary(self) -> LiveSummary:
        """The live metrics now."""
        self._count_latencies()
        return self.metrics.summary(self._now_s())

    def _pass(self, *, final: bool) -> _Pass:
        """Read every input once to its present end, or until what was read ahead fits the definitions no more."""
        count = 0
        self._adopt()
        for parts in merged([self._feed(i, one, final=final) for i, one in enumerate(self._inputs)]):
            self._process(parts, _offsets(parts))
            self._answer()
            count += 1
            if self._stop.is_set() or self._adopt():
                return _Pass(count, interrupted=True)
        return _Pass(count, interrupted=False)

    def _adopt(self) -> bool:
        """Take over new definitions, if there are any; whether inputs are to be read anew from where they stand."""
        prepared = self._adoption.ready()
        if prepared is None:
            return False
        old, new = self._runtime.plan.sources, prepared.plan.sources
        changed = {o.source for o in self._inputs if o.source in new and new[o.source] != old[o.source]}
        for one in self._inputs:
            if one.source not in new:
                why = f"source {one.source!r} is read here, and no more defined"
            elif one.key is None and one.source in changed:
                why = (
                    f"the schema of {one.source!r} changed, and what is read from a pipe cannot be read again"
                )
            else:
                continue
            self._runtime.problems["definitions"] = f"{why}: start the run anew"
            return False
        self._runtime.adopt(prepared)
        if changed:
            for one in self._inputs:
                if isinstance(one, BatchInput):
                    one.read_again()
        return bool(changed)

    def _feed(self, order: int, one: Input, *, final: bool) -> Feed:
        resume = Resume.parse(None if one.key is None else self._offsets.get(one.key))
        if isinstance(one, BatchInput | ChangeInput):
            # Nothing is skipped: the table may have changed, and rows that the log has are known by their ids.
            resume = Resume(resume.at)
        rows = self._runtime.settings.engine.batch_rows
        if self._answering is not None:
            rows = min(rows, SERVING_ROWS)
        contract = self._runtime.engine.contract(self._runtime.plan.sources[one.source])
        blocks = one.read(contract, resume.at, rows=rows, final=final, stop=self._stop)
        return Feed(contract.source, blocks, resume=resume, order=order, key=one.key)

    def _lasting_feed(self, order: int, one: KafkaInput) -> Feed:
        """What is kept over steps, so that what is piled up is merged however many they are."""
        resume = Resume.parse(self._offsets.get(one.key))
        rows = self._runtime.settings.engine.batch_rows
        contract = self._runtime.engine.contract(self._runtime.plan.sources[one.source])
        blocks = one.follow(contract, resume.at, rows=rows, stop=self._stop)
        return Feed(contract.source, blocks, resume=resume, order=order, key=one.key)

    def _process(self, parts: Sequence[Part], offsets: Mapping[str, str]) -> None:
        started = self._now_s()
        offsets = {**offsets, **self._beside()}
        inputs = by_source(parts)
        processed = self._runtime.process(
            inputs,
            by_time=len(inputs) > 1,
            decide=self._decide,
            offsets=offsets,
        )
        self._offsets.update(offsets)
        self._note(processed, started)
        self._tell()

    def _tell(self) -> None:
        """Show the live metrics, no more often than anybody would look."""
        now_s = self._now_s()
        if now_s - self._told_s < TELL_S:
            return
        self._told_s = now_s
        self._count_latencies()
        if self._watch is not None:
            self._watch(self.metrics.summary(now_s))

    def _count_latencies(self) -> None:
        while self._durable:
            started, done = self._durable.popleft()
            self.metrics.add_latency(done - started, at_s=done)

    def _note(self, processed: Processed, started: float) -> None:
        def durable(_: Future[None]) -> None:  # in the committing thread: note the time, no more
            self._durable.append((started, self._now_s()))

        processed.committed.add_done_callback(durable)
        self.metrics.add(processed.counters, at_s=self._now_s())
        if self._observe is not None:
            self._observe(processed, started)

    def _answer(self) -> None:
        """Serve the requests that wait, and what threads beside ask of lists, if there are any."""
        self._runtime.list_asks.serve(self._runtime, self._note)
        if self._answering is not None:
            self._answering.serve(self._note)

    def _wait(self, seconds: float) -> None:
        """Wait for something to do, serving requests as they come."""
        if self._answering is None:
            (self._arrived if self._topics else self._stop).wait(seconds)
            self._arrived.clear()
            return
        until = self._now_s() + seconds
        while not self._stop.is_set() and (left := until - self._now_s()) > 0:
            if self._answering.queue.wait(left):
                self._answer()
            if self._arrived.is_set():
                break
        self._arrived.clear()

    def _wake(self) -> None:
        """Something came from Kafka; called in the thread that reads."""
        self._arrived.set()
        if self._answering is not None:
            self._answering.queue.wake()

    def _finish(self) -> LiveSummary:
        self._adoption.close()
        self._runtime.engine.flush()
        for one in self._inputs:
            if isinstance(one, ChangeInput | TableInput):
                one.close()
        return self.summary()


def _offsets(parts: Sequence[Part]) -> dict[str, str]:
    return {part.key: str(part.resume) for part in parts if part.key is not None}


def _default_action(runtime: Runtime) -> str:
    return next((endpoint.actions[0] for endpoint in runtime.plan.endpoints.values()), "approve")
