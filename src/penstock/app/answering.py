"""Requests through the engine: what waits together is one micro-batch, and is answered when that is durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from penstock.app.dead_letters import gone
from penstock.core.errors import DeadlineError, PenstockError, StoreError, UncertainError
from penstock.engine.answers import Answer, answers_of
from penstock.engine.effects import NO_CHANGES, LetterChanges
from penstock.engine.lookup import RowReader

if TYPE_CHECKING:
    from concurrent.futures import Future

    from penstock.app.request_queue import Ask, RequestQueue
    from penstock.app.runtime import Runtime
    from penstock.engine.contract import Decoded
    from penstock.engine.effects import Outcome
    from penstock.engine.local import Processed
    from penstock.plan.nodes import Plan

Reply = list[Answer] | PenstockError
Replies = Sequence[tuple["Ask", Reply]]
Deliver = Callable[[Replies], None]
Note = Callable[["Processed", float], None]


class Answering:
    """Takes waiting requests through the engine of a running project.

    Parameters
    ----------
    runtime
        The open project.
    queue
        Where requests wait.
    deliver
        Called with requests and their replies, from the engine's thread or the one that commits; must not block or fail.
    """

    def __init__(self, runtime: Runtime, queue: RequestQueue, deliver: Deliver) -> None:
        self._runtime = runtime
        self._deliver = deliver
        self._reading = Lock()
        self._rows: tuple[Plan, RowReader] | None = (
            None  # not the engine's own: that thread is at work meanwhile
        )
        self.queue = queue

    def serve(self, note: Note) -> bool:
        """Process one micro-batch of what waits, in the engine's thread; whether there was any.

        `note` is called with what was processed and when its requests were taken. Raises what stops the engine; the requests
        are told, too.
        """
        asks = self.queue.take(self._runtime.settings.engine.batch_rows)
        if not asks:
            return False
        started_s = self.queue.now_s()
        asks = self._in_time(asks, started_s)
        if any(ask.letters for ask in asks):
            asks = self._with_letters(asks)
        drops = [ask for ask in asks if not ask.source]
        groups: list[list[Ask]] = []
        inputs: list[tuple[str, Decoded]] = []
        for source, group in _by_source(asks).items():
            decoded = self._decoded(source, group)
            if decoded is not None:
                groups.append(group)
                inputs.append((source, decoded))
        if inputs or drops:
            self._process(inputs, groups, drops, note, started_s)
        return True

    def _process(
        self,
        inputs: Sequence[tuple[str, Decoded]],
        groups: Sequence[list[Ask]],
        drops: Sequence[Ask],
        note: Note,
        started_s: float,
    ) -> None:
        plan = self._runtime.plan  # it may be another when the answers are made
        try:
            # A lone micro-batch is committed here: handing it to another thread would only take time.
            processed = self._runtime.process(
                inputs, overlap=bool(self.queue), letters=_letters(groups, drops)
            )
        except BaseException as error:
            self._refuse([*(ask for group in groups for ask in group), *drops], _stopped(error))
            raise
        processed.committed.add_done_callback(lambda done: self._answer(processed, groups, drops, plan, done))
        note(processed, started_s)  # nobody waits for this

    def drain(self, note: Note) -> None:
        """Let no more in, and process all that waits."""
        self.queue.close()
        while self.serve(note):
            pass

    def _in_time(self, asks: list[Ask], now_s: float) -> list[Ask]:
        late = [ask for ask in asks if ask.deadline_s < now_s]
        if not late:
            return asks
        self._refuse(late, waited_too_long())
        return [ask for ask in asks if ask.deadline_s >= now_s]

    def _with_letters(self, asks: list[Ask]) -> list[Ask]:
        """Without replays of letters that are gone: they were replayed or dropped meanwhile, by a request before."""
        self._runtime.engine.flush()  # what is being committed may remove letters
        wanted = {letter for ask in asks for letter in ask.letters}
        there = {one.letter_id for one in self._runtime.store.dead_letters_with(sorted(wanted))}
        left = []
        for ask in asks:
            if ask.source and not there.issuperset(ask.letters):
                self._refuse([ask], gone(min(set(ask.letters) - there)))
                continue
            there.difference_update(ask.letters)
            left.append(ask)
        return left

    def _decoded(self, source: str, asks: list[Ask]) -> Decoded | None:
        """The events of requests for one source, in one piece; None where the requests are refused."""
        try:
            decoded = self._runtime.decode(source, b"\n".join([ask.data for ask in asks]))
        except PenstockError as error:  # definitions may have changed since it was asked
            self._refuse(asks, error)
            return None
        if decoded.received != sum(ask.events for ask in asks):
            self._refuse(
                asks, StoreError("requests could not be told apart: a defect of Penstock; please report it.")
            )
            return None
        return decoded

    def _answer(
        self,
        processed: Processed,
        groups: Sequence[list[Ask]],
        drops: Sequence[Ask],
        plan: Plan,
        done: Future[None],
    ) -> None:
        """Make the answers, once everything is durable; nobody may be left without one."""
        error = done.exception()
        if error is None:
            try:
                self._deliver(self._replies(processed, groups, drops, plan))
            except Exception as unforeseen:  # noqa: BLE001 - this thread has nobody to raise it to; the requests are told
                error = unforeseen
        if error is not None:
            self._refuse([*(ask for group in groups for ask in group), *drops], _stopped(error))

    def _replies(
        self, processed: Processed, groups: Sequence[list[Ask]], drops: Sequence[Ask], plan: Plan
    ) -> list[tuple[Ask, Reply]]:
        replies: list[tuple[Ask, Reply]] = [(ask, []) for ask in drops]
        for outcome, group in zip(processed.outcomes, groups, strict=True):
            wanted = any(ask.with_features for ask in group)
            answers = self._answers(outcome, plan, with_features=wanted)
            start = 0
            for ask in group:
                replies.append((ask, answers[start : start + ask.events]))
                start += ask.events
        return replies

    def _answers(self, outcome: Outcome, plan: Plan, *, with_features: bool) -> list[Answer]:
        with self._reading:
            if self._rows is None or self._rows[0] is not plan:
                self._rows = plan, RowReader(self._runtime.store, plan.sources)
            rows = self._rows[1]
            rows.versions = self._runtime.engine.rows.versions
            return answers_of(outcome, plan, rows, with_features=with_features)

    def _refuse(self, asks: Sequence[Ask], error: PenstockError) -> None:
        self._deliver([(ask, error) for ask in asks])


def waited_too_long() -> DeadlineError:
    """What a request is told whose deadline passed while it waited."""
    return DeadlineError(
        "the deadline passed while the request waited; nothing of it was stored. Send it again, with more time.",
        taken=False,
    )


def _by_source(asks: Sequence[Ask]) -> dict[str, list[Ask]]:
    found: dict[str, list[Ask]] = {}
    for ask in asks:
        if ask.source:
            found.setdefault(ask.source, []).append(ask)
    return found


def _letters(groups: Sequence[list[Ask]], drops: Sequence[Ask]) -> LetterChanges:
    """What the requests of a micro-batch do to dead letters."""
    if not drops and not any(ask.letters for group in groups for ask in group):
        return NO_CHANGES
    replays: dict[str, dict[int, int]] = {}
    for group in groups:
        start = 0
        for ask in group:
            replays.setdefault(ask.source, {}).update(enumerate(ask.letters, start))
            start += ask.events
    return LetterChanges(replays, [letter for ask in drops for letter in ask.letters])


def _stopped(error: BaseException) -> PenstockError:
    return UncertainError(
        f"the engine did not answer ({error}). Whether the events were stored is not known: send them again with the same ids."
    )
