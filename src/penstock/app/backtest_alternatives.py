"""What a backtest tries: another model, policy, threshold, rule, list or feature, as something that decides on logged events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from penstock.app.logged_decisions import LoggedBlock
from penstock.app.routing import thresholds_in_force, thresholds_of
from penstock.app.runtime import learned_path, plan_of, registry_of
from penstock.core.errors import InputError, NotFoundError
from penstock.definitions.endpoints import Endpoint, check_rules, with_lists
from penstock.definitions.policies import Policy
from penstock.definitions.project import Project
from penstock.engine.alert_caps import AlertDays, capped
from penstock.engine.assembly import FeatureRows
from penstock.engine.decisions import Decisions, Flag, decide
from penstock.engine.ports import Scorer
from penstock.engine.routing import Route, RouteArm
from penstock.models.loading import Kept, load_model
from penstock.models.registry import ModelVersion
from penstock.plan.nodes import EndpointNode, Plan

FloatArray = npt.NDArray[np.float64]

LATENESS = np.uint8(Flag.LATE | Flag.TOO_LATE)


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
    lists
        By list of keys whose members it has: those of a file, or, by name, those of another list as they were before the period. See
        `penstock.app.tried_lists`.
    """

    start_us: int | None = None
    end_us: int | None = None
    models: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    policy: str | None = None
    definitions: Path | None = None
    lists: Mapping[str, Path | str] = field(default_factory=dict)


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
        if isinstance(self.arm.scorer, AsStored):
            self.arm.scorer.scores = stored.scores
        degraded = (stored.flags & np.uint8(Flag.DEGRADED)) > 0
        rows = FeatureRows(vectors, {}, stored.flags & LATENESS, degraded)
        route = Route(self.endpoint.name, [self.arm])
        found = decide(self.endpoint, rows, route, service, lambda: (block.events, block.positions))
        cap = self.endpoint.cap
        return found if cap is None else capped(cap, found, times_us, self.days)


class AsStored:
    """A model that says again what was said."""

    version, digest, feature_names = "", "", ()

    def __init__(self) -> None:
        self.scores = np.zeros(0)

    def score(self, vectors: FloatArray) -> FloatArray:  # noqa: ARG002 - a `Scorer`
        """The scores as stored."""
        return self.scores


def plan_with(project: Project, definition: Endpoint, policy: Policy) -> Plan:
    """The plan of a project whose endpoint had `policy`: with the features of the lists that its rules name.

    Raises `DefinitionError` where a rule is about what is no feature of the endpoint.
    """
    if policy is definition.policy:
        return plan_of(project)
    features = with_lists(definition.features, policy, definition.source)
    check_rules(policy.rules, features.feature_types, owner=f"Policy {policy.name!r}")
    tried = Endpoint(
        definition.name,
        source=definition.source,
        model=definition.model,
        policy=policy,
        arms=definition.arms,
        sticky=definition.sticky,
        features=features,
        guard=definition.guard,
    )
    return plan_of(replace(project, endpoints={**project.endpoints, definition.name: tried}))


def alternatives(
    root: Path, node: EndpointNode, policy: Policy, plan: Plan, asked: Asked
) -> Iterator[Alternative]:
    """What decides, by the endpoint of a plan that has the policy."""
    if not asked.models:
        name = policy.name if asked.policy else "as defined now"
        if asked.definitions is None or policy.actions == ():
            yield Alternative(
                name=name,
                endpoint=_at(node, asked, thresholds_in_force(node, registry_of(root))),
                arm=RouteArm("", 1.0, AsStored()),
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


def policy_asked(project: Project, definition: Endpoint, asked: Asked) -> Policy:
    """The policy that is tried; raises `NotFoundError`."""
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
