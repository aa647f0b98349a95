"""Endpoints and their arms: which model versions decide on a stream, and on what share of its keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.core.errors import DefinitionError
from penstock.core.types import DataType, check_name
from penstock.definitions.entities import Entity
from penstock.definitions.guards import DEFAULT_GUARD, Guard, check_guard
from penstock.definitions.models import Model
from penstock.definitions.policies import AlertBudget, Policy, Rule
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import StreamSource
from penstock.definitions.tags import Tags, tags_of


@dataclass(frozen=True, slots=True)
class Arm:
    """One model version of an endpoint, and the share of the entities that it decides on.

    Parameters
    ----------
    name
        The arm's name, as decisions record it.
    version
        Which version of the model: an alias (``"champion"``, ``"challenger"``, ``"previous"``) or a number.
    weight
        Its share of the keys, in proportion to the weights of the other arms. 0 takes it out of service.
    model
        Another model than the endpoint's; its features must be among the endpoint's.
    shadow
        Whether it scores every event beside the arms that decide, off the path of the answer; its weight does not count.

    Examples
    --------
    >>> Arm("challenger", version="challenger", weight=10).weight
    10
    """

    name: str
    version: str | int = "champion"
    weight: float = 1.0
    model: Model | None = None
    shadow: bool = False

    def __post_init__(self) -> None:
        what = f"Arm {check_name(self.name, what='Arm')!r}"
        check_weight(self.weight, owner=what)
        version: object = self.version
        if isinstance(version, bool) or not isinstance(version, str | int) or version in ("", 0):
            raise DefinitionError(
                f"{what}: version is {version!r}; allowed are an alias (champion, challenger, previous) and a version's "
                'number. Write for example version="challenger".'
            )


@dataclass(frozen=True, slots=True, init=False)
class Endpoint:
    """A stable name under which events of a source are scored and decided.

    Parameters
    ----------
    name
        The endpoint's name.
    source
        The stream whose events are scored.
    model
        The model whose champion version scores them.
    policy
        Turns the score into an action.
    arms
        Which versions decide on which share of the keys, and which only look on; default: the champion on all. Weights can be
        changed while the endpoint runs (``penstock route``).
    sticky
        With several arms the entity whose key chooses one: all events of a key have the same arm while weights stay, and a
        weight that grows moves keys to its arm only.
    features
        The features that decisions are made on and logged with; default: the model's. The features of every arm's model
        must be among them. Those of lists that rules name are added.
    guard
        What takes a version out of service again without a hand; None: nothing does.
    """

    name: str
    source: StreamSource
    model: Model
    policy: Policy
    arms: tuple[Arm, ...]
    sticky: Entity | None
    features: FeatureService
    guard: Guard | None
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        *,
        source: StreamSource,
        model: Model,
        policy: Policy,
        arms: Sequence[Arm] | None = None,
        sticky: Entity | None = None,
        features: FeatureService | None = None,
        guard: Guard | None = DEFAULT_GUARD,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"Endpoint {check_name(name, what='Endpoint')!r}"
        for argument, value, kind in (
            ("source", source, StreamSource),
            ("model", model, Model),
            ("policy", policy, Policy),
            ("features", model.features if features is None else features, FeatureService),
        ):
            if not isinstance(value, kind):
                raise DefinitionError(
                    f"{what}: {argument} is {value!r}; allowed is a {kind.__name__}. Give one."
                )
            object.__setattr__(self, argument, value)
        object.__setattr__(self, "features", with_lists(self.features, policy, source))
        check_guard(guard, owner=what)
        values = (
            ("name", name),
            ("arms", (Arm("champion"),) if arms is None else tuple(check_arms(arms, owner=what))),
            ("sticky", sticky),
            ("guard", guard),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        )
        for attribute, chosen in values:
            object.__setattr__(self, attribute, chosen)
        for used in self.models:
            _check_model(self, used, owner=what)
        _check_sticky(self, owner=what)
        check_rules(policy.rules, self.features.feature_types, owner=what)

    @property
    def models(self) -> tuple[Model, ...]:
        """The models of its arms, the endpoint's own first."""
        used = (self.model, *(arm.model or self.model for arm in self.arms))
        return tuple({id(model): model for model in used}.values())

    @property
    def deciding(self) -> tuple[Arm, ...]:
        """The arms that are no shadows."""
        return tuple(arm for arm in self.arms if not arm.shadow)


def with_lists(features: FeatureService, policy: Policy, stream: StreamSource) -> FeatureService:
    """`features`, with those of the lists that rules of `policy` name; the service itself where it has them all."""
    lists = [rule.key_list for rule in policy.rules if rule.key_list is not None]
    missing = [one.on(stream) for one in dict.fromkeys(lists) if one.feature not in features.feature_types]
    if not missing:
        return features
    return FeatureService(f"{features.name}_with_lists", features=[*features.features, *missing])


def check_weight(weight: object, *, owner: str) -> None:
    """Refuse what is no finite number of at least 0."""
    if (
        isinstance(weight, bool)
        or not isinstance(weight, int | float)
        or not (math.isfinite(weight) and weight >= 0)
    ):
        raise DefinitionError(
            f"{owner}: weight is {weight!r}; allowed is a finite number of at least 0. Write for example weight=10."
        )


def check_arms(arms: object, *, owner: str) -> Sequence[Arm]:
    """Arms of different names, of which at least one decides."""
    if not isinstance(arms, list | tuple) or not all(isinstance(arm, Arm) for arm in arms):
        raise DefinitionError(
            f'{owner}: arms is {arms!r}; allowed is a list of Arm. Write for example arms=[Arm("champion", weight=90), '
            'Arm("challenger", version="challenger", weight=10)].'
        )
    names = [arm.name for arm in arms]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DefinitionError(
            f"{owner}: arm {repeated[0]!r} occurs twice; allowed is each name once. Rename one."
        )
    if not any(arm.weight for arm in arms if not arm.shadow):
        raise DefinitionError(
            f"{owner}: its arms {', '.join(names) or '(none)'} decide on nothing; allowed is at least one that is no shadow "
            "and has a weight above 0. Give one a weight."
        )
    return arms


def _check_model(endpoint: Endpoint, model: Model, *, owner: str) -> None:
    source = endpoint.source
    if model.label is not None and model.label.of is not source:
        raise DefinitionError(
            f"{owner}: source is {source.name!r}, but the labels of model {model.name!r} are of "
            f"{model.label.of.name!r}; allowed is the stream that the labels are of. Change one."
        )
    if model.task != endpoint.model.task:
        raise DefinitionError(
            f"{owner}: model {model.name!r} is for task {model.task!r} and {endpoint.model.name!r} for "
            f"{endpoint.model.task!r}; allowed is one task, since one policy reads the scores. Change one."
        )
    budgets = [action for action, one in endpoint.policy.chosen if isinstance(one, AlertBudget)]
    if budgets and model.task != "anomaly":
        raise DefinitionError(
            f"{owner}: the threshold of {budgets[0]!r} is an AlertBudget and model {model.name!r} is for task {model.task!r}; allowed "
            'is task "anomaly", whose scores say how rare they are. Write CostOptimal(alerts_per_day=...) or a number.'
        )
    have, wanted = _meanings(endpoint.features), _meanings(model.features)
    missing = [name for name in wanted if have.get(name) != wanted[name]]
    if missing:
        raise DefinitionError(
            f"{owner}: feature {missing[0]!r} of model {model.name!r} is not one of FeatureService "
            f"{endpoint.features.name!r}; allowed are models whose features are. Give the endpoint a FeatureService with the "
            "features of all its models: features=..."
        )


def _meanings(service: FeatureService) -> dict[str, object]:
    """What each feature of a service stands for: two of one name may be of different views or keys."""
    return {
        f"{reference.name}.{name}": (id(reference.view), name, frozenset(reference.join_key_map))
        for reference in service.features
        for name in reference.features
    }


def check_rules(rules: Sequence[Rule], types: Mapping[str, DataType], *, owner: str) -> None:
    """Refuse rules about what is no Bool among the features of an endpoint."""
    for rule in rules:
        dtype = types.get(rule.feature)
        if dtype is None or dtype.kind != "bool":
            flags = [name for name, found in types.items() if found.kind == "bool"]
            raise DefinitionError(
                f"{owner}: rule {rule.name!r} holds when {rule.feature!r}, which is "
                f"{'no feature of it' if dtype is None else f'a {dtype.name}'}; allowed are its Bool features: "
                f"{', '.join(flags) or 'it has none'}. Name one, or add the view to its features: features=FeatureService(...)."
            )


def _check_sticky(endpoint: Endpoint, *, owner: str) -> None:
    sticky: object = endpoint.sticky
    if sticky is None:
        if len(endpoint.deciding) > 1:
            raise DefinitionError(
                f"{owner}: it has {len(endpoint.deciding)} arms that decide and no entity by which they share the events; "
                "needed is one, so that a key stays with its arm. Write for example sticky=card."
            )
        return
    if not isinstance(sticky, Entity):
        raise DefinitionError(
            f"{owner}: sticky is {sticky!r}; allowed are an Entity and None. Give the entity whose keys share an arm."
        )
    columns = {field.name for field in endpoint.source.schema}
    missing = [name for name in sticky.key_names if name not in columns]
    if missing:
        raise DefinitionError(
            f"{owner}: sticky is entity {sticky.name!r}, whose key {missing[0]!r} is no column of {endpoint.source.name!r}; "
            f"there are {', '.join(sorted(columns))}. Choose an entity of the events."
        )
