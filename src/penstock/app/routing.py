"""The routes in force: for each endpoint its arms with the model versions in them, loaded, verified and swapped in whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import InputError, ModelError, NotFoundError, PlanError, StoreError
from penstock.definitions.endpoints import check_weight
from penstock.engine.routing import Route, RouteArm
from penstock.models.loading import Kept, load_model

if TYPE_CHECKING:
    from penstock.models.registry import ModelRegistry, ModelVersion
    from penstock.models.runtimes import ScoringModel
    from penstock.plan.nodes import ArmNode, EndpointNode, Plan
    from penstock.stores.audit_log import AuditLog, AuditRow

ACTION = "route"
"""What changes of weights are called in the audit log; the subject is the endpoint."""


class Routes:
    """The routes of the endpoints of `plan`.

    An arm whose version is missing or refused is left out, and its keys go to the others; an endpoint without a model decides
    without one (flag ``no_model``). Safe to use from several threads.

    Parameters
    ----------
    plan, registry, audit
        Whose endpoints they are, where the versions lie, and where weights set since are written.
    states
        Where what versions have learned is kept, for those that go on learning.
    """

    def __init__(
        self, plan: Plan, registry: ModelRegistry, audit: AuditLog, *, states: Kept | None = None
    ) -> None:
        self.plan, self.registry, self.audit = plan, registry, audit
        self._states = states
        self._models: dict[tuple[str, str], ScoringModel] = {}
        """By endpoint and arm."""
        self._thresholds: dict[tuple[str, str], Mapping[str, float]] = {}
        """By endpoint and arm: those that their versions bring along."""
        self._given: set[tuple[str, str]] = set()
        """The arms whose models came by `serve`."""
        self._ready: dict[str, ScoringModel] = {}
        """By digest: what serves or has an alias, so that a rollback waits for nothing."""
        self._routes: dict[str, Route] = {name: Route(name) for name in plan.endpoints}
        self.shadowed = {e.source: e.name for e in plan.endpoints.values() if any(a.shadow for a in e.arms)}
        """The endpoint on each source's events, where it has shadows."""
        self._changing = threading.RLock()
        self._seen: tuple[object, object] | None = None

    def __getitem__(self, endpoint: str) -> Route:
        return self._routes[endpoint]

    def readers(self) -> dict[str, Callable[[], Route]]:
        """For each endpoint a function that gives its route at the time of the call."""
        return {name: self._reader(name) for name in self.plan.endpoints}

    def serve(self, endpoint: str, model: ScoringModel, *, arm: str | None = None) -> None:
        """Let `model` score for an arm (default: the first) from the next batch on."""
        node = self.plan.endpoints[endpoint]
        chosen = node.arms[0] if arm is None else arm_named(node, arm)
        wanted = self.plan.services[chosen.service].feature_names
        if model.feature_names != wanted:
            raise ModelError(
                f"Model {model.version!r}: its features are {list(model.feature_names)}; endpoint {endpoint!r} gives arm "
                f"{chosen.name!r} {list(wanted)}. Deploy it with the feature service it was trained on."
            )
        with self._changing:
            self._models[endpoint, chosen.name] = model
            self._thresholds.pop((endpoint, chosen.name), None)
            self._given.add((endpoint, chosen.name))
            self._put(node)

    def load(self, problems: dict[str, str]) -> dict[str, tuple[ModelVersion, ...]]:
        """Load, verify and swap in the versions and weights as registry and audit log have them now.

        Returns the versions that are new, by endpoint. A version that does not fit the definitions, or fails its checks, is not
        taken; its arm goes on as it was, and why is noted in `problems` under the endpoint's name. Where the registry does not
        answer, arms go on as they were, ``problems["routes"]`` says why, and routes are stale until it does.
        """
        with self._changing:
            problems.pop("routes", None)
            heads = None
            try:
                heads = self._heads()
            except StoreError as error:
                problems["routes"] = str(error)
            found = self._load(self.plan.endpoints.values(), problems)
            if "routes" not in problems:
                self._forget_old()
                self._seen = heads
            return found

    def models(self) -> list[ScoringModel]:
        """The models in all arms, whether they decide or look on."""
        with self._changing:
            return list(self._models.values())

    @property
    def seen(self) -> tuple[object, object] | None:
        """The heads of registry and audit log when routes were loaded last; None where they never were."""
        return self._seen

    def stale(self) -> bool:
        """Whether registry or audit log have changed since routes were loaded last."""
        return self._seen != self._heads()

    def following(self, plan: Plan, problems: dict[str, str]) -> Routes:
        """Those for `plan`: models that go on are shared, others are loaded as by `load`."""
        routes = Routes(plan, self.registry, self.audit, states=self._states)
        with self._changing:
            for (endpoint, arm), model in self._models.items():
                if _goes_on(self.plan, plan, endpoint, arm):
                    routes._models[endpoint, arm] = model
                    routes._thresholds[endpoint, arm] = self._thresholds.get((endpoint, arm), {})
            routes._given = self._given & routes._models.keys()
            routes._ready = dict(self._ready)
        routes.load(problems)
        return routes

    def _heads(self) -> tuple[object, object]:
        return self.registry.head(), self.audit.head()

    def _load(
        self, endpoints: Iterable[EndpointNode], problems: dict[str, str]
    ) -> dict[str, tuple[ModelVersion, ...]]:
        found: dict[str, tuple[ModelVersion, ...]] = {}
        for endpoint in endpoints:
            fresh, refused = [], []
            for arm in endpoint.arms:
                try:
                    wanted = version_of(arm, self.registry)
                except StoreError as error:
                    problems["routes"] = str(error)
                    continue
                current = self._models.get((endpoint.name, arm.name))
                if wanted is None and (endpoint.name, arm.name) not in self._given:
                    self._models.pop((endpoint.name, arm.name), None)
                if wanted is None or (current is not None and _is(current, wanted)):
                    continue
                try:
                    _check_serves(self.plan, arm, wanted)
                    model = self._loaded(wanted)
                except (PlanError, ModelError) as error:
                    refused.append(str(error))
                    continue
                self._models[endpoint.name, arm.name] = model
                self._thresholds[endpoint.name, arm.name] = wanted.manifest().chosen_thresholds
                self._given.discard((endpoint.name, arm.name))
                fresh.append(wanted)
            self._put(endpoint)
            problems.pop(endpoint.name, None)
            if refused:
                problems[endpoint.name] = " ".join(refused)
            if fresh:
                found[endpoint.name] = tuple(fresh)
        return found

    def _loaded(self, version: ModelVersion) -> ScoringModel:
        if version.digest not in self._ready:
            self._ready[version.digest] = load_model(
                version.folder, digest=version.digest, version=version.label, states=self._states
            )
        return self._ready[version.digest]

    def _forget_old(self) -> None:
        models = {arm.model for endpoint in self.plan.endpoints.values() for arm in endpoint.arms}
        kept = {v.digest for name in models for v in self.registry.versions(name) if v.aliases}
        used = {id(model) for model in self._models.values()}
        self._ready = {d: model for d, model in self._ready.items() if d in kept or id(model) in used}

    def _put(self, endpoint: EndpointNode) -> None:
        weights = weights_of(endpoint, self.audit)
        arms = {arm.name: self._arm(endpoint, arm, weights[arm.name]) for arm in endpoint.arms}
        ready = [(node, made) for node in endpoint.arms if (made := arms[node.name]) is not None]
        self._routes[endpoint.name] = Route(
            endpoint.name,
            [made for node, made in ready if not node.shadow and made.weight],
            shadows=[made for node, made in ready if node.shadow],
            sticky=endpoint.sticky,
        )

    def _arm(self, endpoint: EndpointNode, arm: ArmNode, weight: float) -> RouteArm | None:
        model = self._models.get((endpoint.name, arm.name))
        columns = None if arm.columns is None else np.array(arm.columns, np.int64)
        if model is None:
            return None
        chosen = self._thresholds.get((endpoint.name, arm.name), {})
        return RouteArm(arm.name, weight, model, columns, thresholds=thresholds_of(endpoint, chosen))

    def _reader(self, endpoint: str) -> Callable[[], Route]:
        return lambda: self._routes[endpoint]


def thresholds_of(endpoint: EndpointNode, chosen: Mapping[str, float]) -> tuple[float, ...] | None:
    """The thresholds of an arm whose version brings `chosen` along; None where they are the endpoint's own.

    A version that was trained when the actions stood otherwise may cross those that are fixed: a graver action keeps the upper hand.
    """
    if not any(action in chosen for action in endpoint.chosen):
        return None
    found = [chosen.get(a, t) if a in endpoint.chosen else t for a, t in endpoint.steps]
    return tuple(min(found[i:]) for i in range(len(found)))


def thresholds_in_force(endpoint: EndpointNode, registry: ModelRegistry) -> tuple[float, ...]:
    """The thresholds of an endpoint's first arm, as the version in it brings them along."""
    version = version_of(endpoint.arms[0], registry) if endpoint.chosen else None
    chosen = {} if version is None else version.manifest().chosen_thresholds
    return thresholds_of(endpoint, chosen) or endpoint.thresholds


def endpoint_named(plan: Plan, name: str | None) -> EndpointNode:
    """The endpoint of a plan, the only one where no name is given; `NotFoundError` lists those that there are."""
    if name is None and len(plan.endpoints) == 1:
        return next(iter(plan.endpoints.values()))
    if name is None or name not in plan.endpoints:
        found = "no endpoint is named" if name is None else f"endpoint {name!r} is not defined"
        raise NotFoundError(f"{found}; there are {', '.join(plan.endpoints) or 'none'}. Name one of these.")
    return plan.endpoints[name]


def arm_named(endpoint: EndpointNode, name: str) -> ArmNode:
    """The arm of an endpoint; `NotFoundError` lists those that it has."""
    for arm in endpoint.arms:
        if arm.name == name:
            return arm
    raise NotFoundError(
        f"endpoint {endpoint.name!r}: it has no arm {name!r}; there are {', '.join(a.name for a in endpoint.arms)}. Choose one "
        "of these, or add an Arm to its definition."
    )


def weights_of(endpoint: EndpointNode, audit: AuditLog) -> dict[str, float]:
    """The weights of an endpoint's arms: as set last, else as defined."""
    return _weights(endpoint, audit.newest(ACTION, endpoint.name))


def weights_since(endpoint: EndpointNode, audit: AuditLog) -> int:
    """The length of the log when an endpoint's weights were set last; 0 where they never were."""
    row = audit.newest(ACTION, endpoint.name)
    return 0 if row is None else int(row.values().get("position", 0))


def _weights(endpoint: EndpointNode, row: AuditRow | None) -> dict[str, float]:
    since = (None if row is None else row.values()["weights"]) or {}
    weights = {arm.name: float(since.get(arm.name, arm.weight)) for arm in endpoint.arms}
    if any(weights[arm.name] for arm in endpoint.arms if not arm.shadow):
        return weights
    return {arm.name: arm.weight for arm in endpoint.arms}  # the arms that had weight are defined no more


def reset_weights(
    endpoint: EndpointNode, audit: AuditLog, *, actor: str, reason: str, position: int = 0
) -> AuditRow:
    """Let an endpoint's weights be as they are defined again."""
    detail = {"weights": None, "position": position}
    return audit.append(ACTION, endpoint.name, detail, actor=actor, reason=reason)


def set_weights(
    endpoint: EndpointNode,
    changes: Mapping[str, float],
    audit: AuditLog,
    *,
    actor: str,
    reason: str,
    position: int = 0,
) -> AuditRow:
    """Change weights of an endpoint's arms; engines that run take them over. `position` is the log's length now.

    Raises `InputError` where no arm would decide any more.
    """
    for name, weight in changes.items():
        if arm_named(endpoint, name).shadow:
            raise InputError(
                f"endpoint {endpoint.name!r}: arm {name!r} is a shadow, which scores every event whatever its weight. Change its "
                "definition to let it decide."
            )
        check_weight(weight, owner=f"endpoint {endpoint.name!r}, arm {name!r}")

    def changed(newest: AuditRow | None) -> dict[str, Any]:
        weights = _weights(endpoint, newest) | dict(changes)
        if not any(weights[arm.name] for arm in endpoint.arms if not arm.shadow):
            raise InputError(
                f"endpoint {endpoint.name!r}: with weights {weights} no arm decides. Leave one above 0."
            )
        return {"weights": weights, "position": position}

    return audit.append(ACTION, endpoint.name, changed, actor=actor, reason=reason)


def arm_shares(endpoint: EndpointNode, registry: ModelRegistry, audit: AuditLog) -> list[dict[str, Any]]:
    """The arms of an endpoint as JSON values: what is in them, and their shares of the keys as things stand.

    An arm without a version has none.
    """
    weights = weights_of(endpoint, audit)
    versions = {arm.name: version_of(arm, registry) for arm in endpoint.arms}
    deciding = [arm.name for arm in endpoint.arms if not arm.shadow and versions[arm.name] is not None]
    total = sum(weights[name] for name in deciding)
    return [
        {
            "arm": arm.name,
            "of": f"{arm.model} {arm.version}",
            "version": None if (found := versions[arm.name]) is None else found.label,
            "shadow": arm.shadow,
            "weight": weights[arm.name],
            "share": weights[arm.name] / total if arm.name in deciding and total else 0.0,
        }
        for arm in endpoint.arms
    ]


def version_of(arm: ArmNode, registry: ModelRegistry) -> ModelVersion | None:
    """The version in an arm, by number or alias; None where there is none yet."""
    versions = registry.versions(arm.model)
    return next((v for v in versions if arm.version in (str(v.version), *v.aliases)), None)


def _is(model: ScoringModel, version: ModelVersion) -> bool:
    """Whether `model` is of `version`; a learner's copies are named ``NAME:VERSION+LABELS``."""
    return model.version.partition("+")[0] == version.label


def _goes_on(old: Plan, new: Plan, endpoint: str, arm: str) -> bool:
    """Whether the model in an arm serves it in plan `new`, too."""
    pair = [
        next((a for a in node.arms if a.name == arm), None)
        for plan in (old, new)
        if (node := plan.endpoints.get(endpoint)) is not None
    ]
    if len(pair) < 2 or pair[0] is None or pair[1] is None or pair[0].model != pair[1].model:
        return False
    return old.services[pair[0].service].fingerprint == new.services[pair[1].service].fingerprint


def _check_serves(plan: Plan, arm: ArmNode, version: ModelVersion) -> None:
    service = plan.services[arm.service]
    trained = version.manifest().service_fingerprint
    if trained != service.fingerprint:
        raise PlanError(
            f"model {version.label!r}: it was trained on features with fingerprint {trained}, and service "
            f"{service.name!r} now has {service.fingerprint}: the definitions changed. Train again (penstock train "
            f"{arm.model}) or restore the definitions."
        )
