"""What another model, policy, threshold, rule or feature would have decided: the logged events of a period, decided again.

Nothing is written. Logged vectors are scored as they are, so that a backtest of the model that decided gives its decisions back bit
for bit; where other definitions are given, features are recomputed from the log as a replay computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.app.backtest_latency import arm_in_force, feature_latencies, model_latencies
from penstock.app.logged_decisions import LoggedBlock, Vectors, logged_blocks
from penstock.app.routing import endpoint_named, thresholds_in_force, thresholds_of
from penstock.app.runtime import learned_path, open_reader, plan_of, registry_of
from penstock.app.training import cost_column
from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import from_us
from penstock.definitions.endpoints import Endpoint, check_rules
from penstock.definitions.policies import Policy
from penstock.definitions.project import Project, load_project
from penstock.engine.alert_caps import AlertDays, capped
from penstock.engine.assembly import FeatureRows
from penstock.engine.decisions import Decisions, Flag, decide
from penstock.engine.ports import LogReader, Scorer
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.routing import Route, RouteArm
from penstock.kernel.columns import Columns, Numeric
from penstock.models.costs import row_costs
from penstock.models.dataset import labels_at
from penstock.models.loading import Kept, load_model
from penstock.models.registry import ModelVersion
from penstock.monitoring.backtest import Block, Changes, Summary, Tally
from penstock.plan.nodes import EndpointNode, Plan, ServiceNode
from penstock.plan.policies import with_policy

FloatArray = npt.NDArray[np.float64]
Watch = Callable[["Alternative", LoggedBlock, Decisions], None]

STORED = "as decided"
LATENESS = np.uint8(Flag.LATE | Flag.TOO_LATE)
_OVER_BUDGET = np.uint8(Flag.OVER_BUDGET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be tried.

    Parameters
    ----------
    start_us, end_us
        The period by event time, from `start_us` and before `end_us`; None: all.
    models
        ``NAME:VERSION``, each beside the others; none: the scores as they were.
    thresholds
        ``{action: threshold}`` in place of the policy's.
    policy
        The name of another policy of the definitions.
    definitions
        The folder of another project, whose endpoint of the same name decides; its features are recomputed where they differ.
    """

    start_us: int | None = None
    end_us: int | None = None
    models: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    policy: str | None = None
    definitions: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One other way to decide: an endpoint's policy, the arm that scores, and how many alerts each day has had by it."""

    name: str
    endpoint: EndpointNode
    arm: RouteArm
    days: AlertDays = field(default_factory=lambda: AlertDays(""))

    def decide(
        self, block: LoggedBlock, vectors: FloatArray, service: str, times_us: npt.NDArray[np.int64]
    ) -> Decisions:
        """What it decides on the events of a block, which follow those of the block before."""
        stored = block.decisions
        if isinstance(self.arm.scorer, _AsStored):
            self.arm.scorer.scores = stored.scores
        degraded = (stored.flags & np.uint8(Flag.DEGRADED)) > 0
        rows = FeatureRows(vectors, {}, stored.flags & LATENESS, degraded)
        route = Route(self.endpoint.name, [self.arm])
        found = decide(self.endpoint, rows, route, service, lambda: (block.events, block.positions))
        cap = self.endpoint.cap
        return found if cap is None else capped(cap, found, times_us, self.days)


class _AsStored:
    """A model that says again what was said."""

    version, digest, feature_names = "", "", ()

    def __init__(self) -> None:
        self.scores = np.zeros(0)

    def score(self, vectors: FloatArray) -> FloatArray:  # noqa: ARG002 - a `Scorer`
        """The scores as stored."""
        return self.scores


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
    """

    endpoint: str
    first_us: int | None
    last_us: int | None
    sides: tuple[Summary, ...]
    changes: tuple[Mapping[tuple[str, str], int], ...]
    days: tuple[Mapping[int, tuple[int, int, float]], ...]
    recomputed: int
    weighted: bool

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "endpoint": self.endpoint,
            "first": None if self.first_us is None else from_us(self.first_us).isoformat(),
            "last": None if self.last_us is None else from_us(self.last_us).isoformat(),
            "recomputed": self.recomputed,
            "weighted": self.weighted,
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
    InputError
        A model was trained on features that the endpoint does not have, or a threshold is of no action.
    """
    asked = asked or Asked()
    own = load_project(root)
    project = own if asked.definitions is None else load_project(asked.definitions)
    plan = plan_of(project)
    node = endpoint_named(plan, endpoint)
    definition = project.endpoints[node.name]
    policy = _policy(project, definition, asked)
    logged = plan if asked.definitions is None else plan_of(own)
    alternatives = list(_alternatives(root, definition, policy, plan, asked))
    costs = policy if policy.costs is not None else definition.policy
    with open_reader(root) as store:
        run = _Run(store, plan, node, costs, alternatives, watch=watch)
        for done in run.blocks(logged, asked):
            progress(done, store.next_position)
        run.measure(root, logged)
    return run.found()


class _Run:
    """One pass over the decisions."""

    def __init__(
        self,
        store: LogReader,
        plan: Plan,
        node: EndpointNode,
        policy: Policy,
        alternatives: Sequence[Alternative],
        *,
        watch: Watch | None,
    ) -> None:
        self._store, self._plan, self._node, self._policy = store, plan, node, policy
        self._alternatives, self._watch = alternatives, watch
        self._service: ServiceNode = plan.services[node.service]
        self._vectors = Vectors(store, plan, self._service)
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
            inside = np.ones(len(times_us), np.bool_)
            if asked.start_us is not None:
                inside &= times_us >= asked.start_us
            if asked.end_us is not None:
                inside &= times_us < asked.end_us
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
            found = alternative.decide(block, vectors, self._service.fingerprint, times_us)
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
        arms = [one.arm if not isinstance(one.arm.scorer, _AsStored) else None for one in self._alternatives]
        if any(arms):
            now = arm_in_force(root, logged, self._node, block)
            rows = [block.decisions.vectors, *(vectors for _ in arms)]
            for tally, took in zip(self._tallies, model_latencies([now, *arms], rows), strict=True):
                tally.latency_ms = took
        if self._vectors.recomputed and self._node.name in logged.endpoints:
            own = logged.services[logged.endpoints[self._node.name].service]
            before, after = feature_latencies(
                self._store, [(logged, own), (self._plan, self._service)], block.positions
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

    def found(self) -> Backtest:
        """What came of it."""
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
        )


def _alternatives(
    root: Path, definition: Endpoint, policy: Policy, plan: Plan, asked: Asked
) -> Iterator[Alternative]:
    node = plan.endpoints[definition.name]
    check_rules(policy.rules, definition.features.feature_types, owner=f"Policy {policy.name!r}")
    node = with_policy(node, policy, plan.services[node.service].feature_names)
    if not asked.models:
        name = policy.name if asked.policy else "as defined now"
        if asked.definitions is None or policy.actions == ():
            yield Alternative(
                name=name,
                endpoint=_at(node, asked, thresholds_in_force(node, registry_of(root))),
                arm=RouteArm("", 1.0, _AsStored()),
            )
            return
    for label in asked.models or (f"{node.model}:champion",):
        version = _version(root, label, asked)
        columns = _columns(plan, node, version)
        model: Scorer = load_model(
            version.folder, digest=version.digest, version=version.label, states=Kept(learned_path(root))
        )
        brought = thresholds_of(node, version.manifest().chosen_thresholds)
        endpoint = _at(node, asked, brought or node.thresholds)
        yield Alternative(name=version.label, endpoint=endpoint, arm=RouteArm("", 1.0, model, columns))


def _policy(project: Project, definition: Endpoint, asked: Asked) -> Policy:
    if asked.policy is None:
        return definition.policy
    if asked.policy not in project.policies:
        raise NotFoundError(
            f"Policy {asked.policy!r}: the definitions have {', '.join(project.policies) or 'none'}. Choose one of these."
        )
    return project.policies[asked.policy]


def _at(node: EndpointNode, asked: Asked, brought: tuple[float, ...]) -> EndpointNode:
    """The endpoint with the thresholds that a version brings along, and those that are asked for."""
    thresholds = dict(zip([action for action, _ in node.steps], brought, strict=True))
    for action, threshold in asked.thresholds.items():
        if action not in thresholds:
            raise InputError(
                f"backtest: --threshold names the action {action!r}; the score decides {', '.join(thresholds) or 'nothing'}. "
                "Name one of these."
            )
        thresholds[action] = threshold
    values = tuple(thresholds.values())
    if any(low > high for low, high in pairwise(values)):
        listed = ", ".join(f"{action} from {threshold:g}" for action, threshold in thresholds.items())
        raise InputError(
            f"backtest: with these thresholds a graver action would come first: {listed}. Allowed is to keep their order. "
            "Give thresholds for the others, too."
        )
    return replace(node, thresholds=values)


def _version(root: Path, label: str, asked: Asked) -> ModelVersion:
    """A version of the other definitions' registry, if there are others, else of the project's."""
    name, _, number = label.partition(":")
    if not name or not number:
        raise InputError(
            f"backtest: model {label!r}; allowed is NAME:VERSION, like fraud:3 or fraud:champion. Correct it."
        )
    wanted: int | str = int(number) if number.isdigit() else number
    if asked.definitions is not None:
        try:
            return registry_of(asked.definitions).get(name, wanted)
        except NotFoundError:  # it may be of this project
            pass
    return registry_of(root).get(name, wanted)


def _columns(plan: Plan, node: EndpointNode, version: ModelVersion) -> npt.NDArray[np.int64] | None:
    """Which columns of the endpoint's rows a version reads."""
    trained = version.manifest().service_fingerprint
    own = plan.services[node.service]
    if trained == own.fingerprint:
        return None
    for arm in node.arms:
        if plan.services[arm.service].fingerprint == trained:
            return None if arm.columns is None else np.array(arm.columns, np.int64)
    raise InputError(
        f"backtest: {version.label} was trained on features with fingerprint {trained}; endpoint {node.name!r} has those of "
        f"{', '.join(dict.fromkeys([own.name, *(arm.service for arm in node.arms)]))}, under these definitions. Give the definitions "
        "that it was trained on (--definitions FOLDER), or train it again."
    )


def _numbers(events: Columns, name: str) -> npt.NDArray[Any]:
    column = events[name]
    assert isinstance(column, Numeric)
    return column.values
