"""What another model, policy, threshold, rule or feature would have decided: the logged events of a period, decided again.

Nothing is written. Logged vectors are scored as they are, so that a backtest of the model that decided gives its decisions back bit
for bit; where other definitions are given, features are recomputed from the log as a replay computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.app.backtest_alternatives import (
    Alternative,
    Asked,
    AsStored,
    alternatives,
    plan_with,
    policy_asked,
)
from penstock.app.backtest_latency import arm_in_force, feature_latencies, model_latencies
from penstock.app.logged_decisions import LoggedBlock, logged_blocks
from penstock.app.routing import endpoint_named
from penstock.app.runtime import open_reader, plan_of
from penstock.app.training import cost_column
from penstock.app.tried_lists import TriedList, TriedVectors, lists_to_try, tried_vectors
from penstock.core.time import from_us
from penstock.definitions.policies import Policy
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.ports import LogReader
from penstock.engine.recovery import Progress, no_progress
from penstock.kernel.columns import BoolArray, Columns, Numeric
from penstock.models.costs import row_costs
from penstock.models.dataset import labels_at
from penstock.monitoring.backtest import Block, Changes, Summary, Tally
from penstock.plan.nodes import EndpointNode, Plan

__all__ = ["Alternative", "Asked", "Backtest", "backtest"]

FloatArray = npt.NDArray[np.float64]
Watch = Callable[[Alternative, LoggedBlock, Decisions], None]

STORED = "as decided"
_OVER_BUDGET = np.uint8(Flag.OVER_BUDGET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """What was found: what was decided first, then each alternative.

    Attributes
    ----------
    first_us, last_us
        Event times of the first and last decision of the period; None where it has none.
    changes
        For each alternative how often one action became another: ``{(before, after): count}``.
    days
        For each side by UTC day since 1970: events, alerts, cost.
    recomputed
        Of how many events features were recomputed.
    weighted
        Whether labels count by the propensity of explored events.
    lists
        The lists that were tried with given members.
    """

    endpoint: str
    first_us: int | None
    last_us: int | None
    sides: tuple[Summary, ...]
    changes: tuple[Mapping[tuple[str, str], int], ...]
    days: tuple[Mapping[int, tuple[int, int, float]], ...]
    recomputed: int
    weighted: bool
    lists: tuple[TriedList, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "endpoint": self.endpoint,
            "first": None if self.first_us is None else from_us(self.first_us).isoformat(),
            "last": None if self.last_us is None else from_us(self.last_us).isoformat(),
            "recomputed": self.recomputed,
            "weighted": self.weighted,
            "lists": [one.to_dict() for one in self.lists],
            "sides": [side.to_dict() for side in self.sides],
            "changes": [
                [{"before": before, "after": after, "events": n} for (before, after), n in found.items()]
                for found in self.changes
            ],
        }


def backtest(
    root: Path,
    endpoint: str | None = None,
    asked: Asked | None = None,
    *,
    progress: Progress = no_progress,
    watch: Watch | None = None,
) -> Backtest:
    """Decide on an endpoint's logged events again, and compare.

    Parameters
    ----------
    endpoint
        The endpoint; default: the only one.
    watch
        Told of each block that an alternative decided on.

    Raises
    ------
    NotFoundError
        There is no such endpoint, model, version or policy.
    DefinitionError
        The policy has a rule about what is no feature of the endpoint.
    InputError
        A model was trained on features that the endpoint does not have, a threshold is of no action, or members of a list cannot be had.
    """
    asked = asked or Asked()
    own = load_project(root)
    project = own if asked.definitions is None else load_project(asked.definitions)
    as_defined = plan_of(project)
    node = endpoint_named(as_defined, endpoint)
    definition = project.endpoints[node.name]
    policy = policy_asked(project, definition, asked)
    logged = as_defined if asked.definitions is None else plan_of(own)
    plan = plan_with(project, definition, policy)
    tried = plan.endpoints[node.name]
    ways = list(alternatives(root, tried, policy, plan, asked))
    costs = policy if policy.costs is not None else definition.policy
    with open_reader(root) as store:
        before = _first_position(store, logged, node, asked)
        lists = lists_to_try(root, store, plan, tried.service, asked.lists, before=before)
        known = as_defined, as_defined.services[node.service]
        vectors = tried_vectors(store, lists, asked=(plan, plan.services[tried.service]), known=known)
        run = _Run(store, node, vectors, costs, ways, watch=watch)
        for done in run.blocks(logged, asked):
            progress(done, store.next_position)
        run.measure(root, logged)
    return run.found(tuple(lists.values()))


def _first_position(store: LogReader, logged: Plan, node: EndpointNode, asked: Asked) -> int:
    """Where the period begins in the log; 0 where nobody asks for the members that a list had then."""
    if not any(isinstance(one, str) for one in asked.lists.values()):
        return 0
    times = logged.sources[node.source].time_field
    for block in logged_blocks(store, logged, logged.endpoints.get(node.name, node)):
        inside = np.flatnonzero(_inside(_numbers(block.events, times), asked))
        if len(inside):
            return int(block.positions[inside[0]])
    return store.next_position


def _inside(times_us: npt.NDArray[Any], asked: Asked) -> BoolArray:
    inside = np.ones(len(times_us), np.bool_)
    if asked.start_us is not None:
        inside &= times_us >= asked.start_us
    if asked.end_us is not None:
        inside &= times_us < asked.end_us
    return inside


class _Run:
    """One pass over the decisions."""

    def __init__(
        self,
        store: LogReader,
        node: EndpointNode,
        vectors: TriedVectors,
        policy: Policy,
        alternatives: Sequence[Alternative],
        *,
        watch: Watch | None,
    ) -> None:
        self._store, self._node, self._policy = store, node, policy
        self._alternatives, self._watch = alternatives, watch
        self._vectors = vectors
        self._tallies: list[Tally] = []
        self._changes = [Changes() for _ in alternatives]
        self._first, self._last = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        self._weighted = False
        self._newest: tuple[LoggedBlock, FloatArray] | None = None

    def blocks(self, logged: Plan, asked: Asked) -> Iterator[int]:
        """Go through the log, in which events stand as the plan `logged` says; yields how far it came."""
        field_ = logged.sources[self._node.source].time_field
        for block in logged_blocks(self._store, logged, logged.endpoints.get(self._node.name, self._node)):
            times_us = _numbers(block.events, field_).astype(np.int64)
            inside = _inside(times_us, asked)
            if inside.all():
                self._take(block, times_us)
            elif inside.any():
                at = np.flatnonzero(inside)
                part = LoggedBlock(block.positions[at], block.events.take(at), block.decisions.take(at))
                self._take(part, times_us[at])
            yield int(block.positions[-1]) + 1

    def _take(self, block: LoggedBlock, times_us: npt.NDArray[np.int64]) -> None:
        self._first, self._last = min(self._first, int(times_us.min())), max(self._last, int(times_us.max()))
        stored = block.decisions
        known = self._priced(block, times_us)
        vectors = self._vectors.of(block)
        self._newest = block, vectors
        if not self._tallies:
            self._tallies = [Tally(STORED, stored.actions[0])]
            self._tallies += [Tally(one.name, one.endpoint.actions[0]) for one in self._alternatives]
        self._tallies[0].over_budget += int(np.count_nonzero(stored.flags & _OVER_BUDGET))
        self._tallies[0].add(known, stored.taken, stored.scores, stored.actions)
        for alternative, tally, changes in zip(
            self._alternatives, self._tallies[1:], self._changes, strict=True
        ):
            found = alternative.decide(block, vectors, self._vectors.service.fingerprint, times_us)
            tally.over_budget += int(np.count_nonzero(found.flags & _OVER_BUDGET))
            tally.add(known, found.taken, found.scores, found.actions)
            changes.add(stored.taken, stored.actions, found.taken, found.actions)
            if self._watch is not None:
                self._watch(alternative, block, found)

    def measure(self, root: Path, logged: Plan) -> None:
        """Measure what is in force beside each alternative: models, and features where those of this plan are others than the log's."""
        if self._newest is None:
            return
        block, vectors = self._newest
        arms = [one.arm if not isinstance(one.arm.scorer, AsStored) else None for one in self._alternatives]
        if any(arms):
            now = arm_in_force(root, logged, self._node, block)
            rows = [block.decisions.vectors, *(vectors for _ in arms)]
            for tally, took in zip(self._tallies, model_latencies([now, *arms], rows), strict=True):
                tally.latency_ms = took
        if self._vectors.recomputed and self._node.name in logged.endpoints:
            own = logged.services[logged.endpoints[self._node.name].service]
            before, after = feature_latencies(
                self._store, [(logged, own), self._vectors.computed], block.positions
            )
            for tally in self._tallies:
                tally.features_ms = before if tally is self._tallies[0] else after

    def _priced(self, block: LoggedBlock, times_us: npt.NDArray[np.int64]) -> Block:
        """What is known of the events: labels, what each counts for, costs."""
        positions = block.positions
        records = self._store.latest_labels(int(positions[0]), int(positions[-1]) + 1)
        labels, _ = labels_at(positions, records)
        weights = block.decisions.label_weights() if block.decisions.explore else None
        self._weighted = self._weighted or weights is not None
        costs = self._policy.costs
        if costs is None:
            return Block.of(times_us, labels, weights)
        columns = {name: cost_column(block.events, name, self._policy) for name in costs.columns}
        return Block.of(times_us, labels, weights, row_costs(costs, columns, len(positions)))

    def found(self, lists: tuple[TriedList, ...]) -> Backtest:
        """What came of it, with the lists that were tried."""
        some = bool(self._tallies)
        return Backtest(
            endpoint=self._node.name,
            first_us=self._first if some else None,
            last_us=self._last if some else None,
            sides=tuple(tally.summary() for tally in self._tallies),
            changes=tuple(changes.counts for changes in self._changes),
            days=tuple(tally.by_day() for tally in self._tallies),
            recomputed=self._vectors.recomputed,
            weighted=self._weighted,
            lists=lists,
        )


def _numbers(events: Columns, name: str) -> npt.NDArray[Any]:
    column = events[name]
    assert isinstance(column, Numeric)
    return column.values
