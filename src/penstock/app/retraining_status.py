"""What a model's retraining waits for, for looking at it: reads only."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from penstock.app.arrivals import Arrivals
from penstock.app.new_labels import LearnedPositions, NewLabels, used_up_to
from penstock.app.retraining_journal import Attempt, Journal
from penstock.models.triggers import is_cooling, next_scheduled_us

if TYPE_CHECKING:
    from penstock.core.clock import Clock
    from penstock.definitions.models import Model
    from penstock.models.registry import ModelRegistry
    from penstock.plan.nodes import Plan
    from penstock.stores.audit_log import AuditLog
    from penstock.stores.reader import ProjectReader


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingStatus:
    """What a model waits for.

    Attributes
    ----------
    watched
        Whether the running project has looked at it yet.
    labels, positives
        Labels that joined their events since the newest attempt, or the newest version that was trained by hand; None of a model that is trained by hand only.
    is_cooling
        Whether the newest attempt started so lately that no other may.
    next_scheduled_us
        The next time of its schedule.
    attempts
        Oldest first.
    """

    watched: bool
    labels: int | None
    positives: int | None
    is_cooling: bool
    next_scheduled_us: int | None
    attempts: list[Attempt]


class RetrainingWatch:
    """Looks at models; counts of labels go on from look to look. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, NewLabels] = {}
        self._learned: LearnedPositions | None = None

    def look(
        self,
        model: Model,
        plan: Plan,
        store: ProjectReader,
        *,
        audit: AuditLog,
        registry: ModelRegistry,
        clock: Clock,
    ) -> RetrainingStatus:
        """How `model` stands."""
        journal = Journal(audit, model.name)
        state, rules = journal.state(), model.retraining
        state = (
            None if state is None else used_up_to(state, self._learned_position(registry, store, model.name))
        )
        known = state is not None and rules is not None
        counted = None
        if state is not None and known:
            counted = self._counted(model.name, state.position, store, Arrivals(store, plan, model))
        cooling = due = None
        if state is not None and rules is not None:
            cooling = is_cooling(rules, state, clock.now_us())
            due = None if rules.schedule is None else next_scheduled_us(rules.schedule, state)
        return RetrainingStatus(
            watched=state is not None,
            labels=None if counted is None else counted[0],
            positives=None if counted is None else counted[1],
            is_cooling=bool(cooling),
            next_scheduled_us=due,
            attempts=journal.attempts(),
        )

    def attempts(self, model: str, audit: AuditLog) -> list[Attempt]:
        """The attempts to train a model again, oldest first."""
        return Journal(audit, model).attempts()

    def _learned_position(self, registry: ModelRegistry, store: ProjectReader, name: str) -> int | None:
        with self._lock:
            if self._learned is None:
                self._learned = LearnedPositions(registry, store.store_id)
            return self._learned.position(name)

    def _counted(self, name: str, since: int, store: ProjectReader, arrivals: Arrivals) -> tuple[int, int]:
        with self._lock:
            counts = self._counts.get(name)
            if counts is None or counts.since != since:
                counts = self._counts[name] = NewLabels(since)
            counts.read(store, arrivals)
            return counts.labels, counts.positives
