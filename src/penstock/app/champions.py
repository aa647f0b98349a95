"""The models that serve: for each endpoint of a plan its version in Production, loaded, verified and swapped in whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from penstock.core.errors import ModelError, PlanError
from penstock.models.loading import load_model
from penstock.models.registry import LocalRegistry, ModelVersion
from penstock.models.runtimes import ModelHandle, ScoringModel
from penstock.plan.nodes import EndpointNode, Plan


@dataclass(frozen=True, slots=True, eq=False)
class Champions:
    """The models of the endpoints of `plan`.

    An endpoint without a model decides without one (flag ``no_model``). Models are put in place in one thread, and read in any.

    Parameters
    ----------
    plan, registry
        Whose endpoints they serve, and where their versions lie.
    """

    plan: Plan
    registry: LocalRegistry
    _handles: dict[str, ModelHandle] = field(default_factory=dict)

    def serving(self, endpoint: str) -> ScoringModel | None:
        """The model that serves `endpoint` now, if one does."""
        handle = self._handles.get(endpoint)
        return None if handle is None else handle.current

    def scorers(self) -> dict[str, Callable[[], ScoringModel | None]]:
        """For each endpoint a function that gives the model that serves it at the time of the call."""
        return {name: self._scorer(name) for name in self.plan.endpoints}

    def serve(self, endpoint: str, model: ScoringModel) -> None:
        """Let `model` serve `endpoint` from the next batch on.

        Raises `ModelError` where its features are not those of the model before it.
        """
        handle = self._handles.get(endpoint)
        if handle is None:
            self._handles[endpoint] = ModelHandle(model)
        else:
            handle.swap(model)

    def load(self, problems: dict[str, str]) -> dict[str, ModelVersion]:
        """Load, verify and swap in the version in Production for each endpoint; returns those that changed.

        An endpoint whose version does not fit the definitions, or fails its checks, goes on with the model that it has, or
        without; why is noted in `problems` under its name, and taken out when a version serves again.
        """
        return self._load(self.plan.endpoints.values(), problems)

    def following(self, plan: Plan, problems: dict[str, str]) -> Champions:
        """Those for `plan`: models that go on are shared, those of other endpoints are loaded as by `load`."""
        kept = {name: handle for name, handle in self._handles.items() if self._goes_on(name, plan)}
        champions = Champions(plan, self.registry, kept)
        fresh = [endpoint for name, endpoint in plan.endpoints.items() if name not in kept]
        champions._load(fresh, problems)
        return champions

    def _scorer(self, endpoint: str) -> Callable[[], ScoringModel | None]:
        return lambda: self.serving(endpoint)

    def _load(self, endpoints: Iterable[EndpointNode], problems: dict[str, str]) -> dict[str, ModelVersion]:
        changed = {}
        for endpoint in endpoints:
            live = next((v for v in self.registry.versions(endpoint.model) if v.stage == "Production"), None)
            current = self.serving(endpoint.name)
            if live is None or (current is not None and current.version.partition("+")[0] == live.label):
                continue
            try:
                _check_serves(self.plan, endpoint, live)
                model = load_model(live.folder, digest=live.digest, version=live.label)
            except (PlanError, ModelError) as error:
                problems[endpoint.name] = str(error)
                continue
            problems.pop(endpoint.name, None)
            self.serve(endpoint.name, model)
            changed[endpoint.name] = live
        return changed

    def _goes_on(self, endpoint: str, plan: Plan) -> bool:
        """Whether the model that serves `endpoint` serves it in `plan`, too."""
        old, new = self.plan.endpoints.get(endpoint), plan.endpoints.get(endpoint)
        if old is None or new is None or old.model != new.model:
            return False
        return self.plan.services[old.service].fingerprint == plan.services[new.service].fingerprint


def _check_serves(plan: Plan, endpoint: EndpointNode, version: ModelVersion) -> None:
    service = plan.services[endpoint.service]
    trained = version.manifest().service_fingerprint
    if trained != service.fingerprint:
        raise PlanError(
            f"model {version.label!r}: it was trained on features with fingerprint {trained}, and service "
            f"{service.name!r} now has {service.fingerprint}: the definitions changed. Train again (penstock train "
            f"{endpoint.model}) or restore the definitions."
        )
