"""The audit as it goes on: it follows the log, a stretch at a time, and compares what it has not compared before."""

from __future__ import annotations

from penstock.engine.audit import AuditReport, compare, first_decision
from penstock.engine.features import FeatureState
from penstock.engine.ports import LogReader
from penstock.engine.replay import replay

STRETCH_ROWS = 4096


class RunningAudit:
    """Follows a log that may grow.

    Parameters
    ----------
    store
        A reader of its own.
    state
        The features' state at `position`; it is moved.
    position
        Where to go on folding.
    compared
        Decisions before this position were compared earlier, and are not again.

    Attributes
    ----------
    position
        The log is folded up to here.
    report
        What was found since the start.
    """

    def __init__(
        self, store: LogReader, state: FeatureState, *, position: int = 0, compared: int = 0
    ) -> None:
        self.position = position
        self.report = AuditReport()
        self._store = store
        self._state = state
        self._compared = max(compared, position)
        self._deciding_from: dict[str, int] = {}

    def step(self, rows: int = STRETCH_ROWS, *, stop: int | None = None) -> int:
        """Go on by up to `rows` rows, not past `stop`; how many there were."""
        length = self._store.next_position
        end = min(length if stop is None else min(length, stop), self.position + rows)
        if self.position < self._compared:
            end = min(end, self._compared)
        moved = end - self.position
        if moved <= 0:
            return 0
        plan = self._state.plan
        comparing = self.position >= self._compared
        services = [plan.services[e.service] for e in plan.endpoints.values()] if comparing else []
        for replayed in replay(self._store, self._state, start=self.position, stop=end, services=services):
            for name, endpoint in plan.endpoints.items() if comparing else ():
                first = self._first_decision(name, end)
                compare(self._store, plan, endpoint, replayed, self.report, deciding_from=first)
        self.position = end
        return moved

    def _first_decision(self, endpoint: str, end: int) -> int:
        """Where the endpoint first decided; `end` while it has not."""
        known = self._deciding_from.get(endpoint)
        if known is not None:
            return known
        first = first_decision(self._store, self._state.plan.endpoints[endpoint], end)
        if first < end:
            self._deciding_from[endpoint] = first
        return first
