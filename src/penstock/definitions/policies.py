"""Decision policies: thresholds, rules beside the score, what wrong decisions cost, and exploration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from penstock.core.errors import DefinitionError
from penstock.core.types import check_name
from penstock.definitions.alert_caps import AlertCap
from penstock.definitions.key_lists import KeyList

MOST_ACTIONS = 255
"""Decisions store the codes of actions and rules in a byte each."""


@dataclass(frozen=True, slots=True)
class CostMatrix:
    """What decisions cost, in the currency of the business.

    A caught bad event costs nothing but its alert, so what an action saves is the event's `false_negative`. A null in a column
    costs nothing.

    Parameters
    ----------
    false_positive
        Cost of an action against a good event: a number, or the name of the event's column that holds it.
    false_negative
        Cost of a missed bad event: likewise.
    alert
        Cost of each action, right or wrong: the time of whoever looks at it.

    Examples
    --------
    >>> CostMatrix(false_positive=5.0, false_negative="amount").columns
    ('amount',)
    """

    false_positive: float | str
    false_negative: float | str
    alert: float = 0.0

    def __post_init__(self) -> None:
        for name in ("false_positive", "false_negative", "alert"):
            value = getattr(self, name)
            if isinstance(value, str) and name != "alert":
                check_name(value, what=f"CostMatrix, {name}")
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise DefinitionError(
                    f"CostMatrix: {name} is {value!r}; allowed is a finite number of at least 0"
                    f"{', or a column' if name != 'alert' else ''}. Write for example {name}=5.0."
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The event's columns that it names."""
        named = (self.false_positive, self.false_negative)
        return tuple(dict.fromkeys(each for each in named if isinstance(each, str)))


@dataclass(frozen=True, slots=True)
class CostOptimal:
    """A threshold that each version brings along: that of the least cost on a validation period of its training.

    Parameters
    ----------
    until
        The threshold while no version with a chosen one decides.
    costs
        What decisions of this action cost; default: the policy's costs.
    alerts_per_day
        Budget: the threshold is not chosen so low that the action, or a graver one, is taken more often, on average over the
        days of validation. None: no limit.

    Examples
    --------
    >>> CostOptimal(until=0.9, alerts_per_day=200).until
    0.9
    """

    until: float = 0.5
    costs: CostMatrix | None = None
    alerts_per_day: float | None = None

    def __post_init__(self) -> None:
        _check_threshold(self.until, what="CostOptimal: until")
        costs: object = self.costs
        if costs is not None and not isinstance(costs, CostMatrix):
            raise DefinitionError(
                f"CostOptimal: costs is {costs!r}; allowed are a CostMatrix and None. Write for example "
                'CostMatrix(false_positive=5.0, false_negative="amount").'
            )
        budget: object = self.alerts_per_day
        if budget is not None and not (_is_number(budget) and budget > 0):  # type: ignore[operator]
            raise DefinitionError(
                f"CostOptimal: alerts_per_day is {budget!r}; allowed are a number above 0 and None. Write for example "
                "alerts_per_day=200."
            )


@dataclass(frozen=True, slots=True)
class AlertBudget:
    """A threshold that each version of a detector of anomalies brings along: that which is reached so many times a day.

    Scores of detectors are probabilities, so it follows from how many events there were a day in its training period. It holds on
    average and while nothing changes: real anomalies come on top.

    Parameters
    ----------
    alerts_per_day
        How many events a day reach it.
    until
        The threshold while no version decides that brings one.

    Examples
    --------
    >>> AlertBudget(5).until
    0.999
    """

    alerts_per_day: float
    until: float = 0.999

    def __post_init__(self) -> None:
        _check_threshold(self.until, what="AlertBudget: until")
        budget: object = self.alerts_per_day
        if not (_is_number(budget) and budget > 0):  # type: ignore[operator]
            raise DefinitionError(
                f"AlertBudget: alerts_per_day is {budget!r}; allowed is a number above 0. Write for example AlertBudget(5)."
            )

    @property
    def costs(self) -> CostMatrix | None:
        """None: it asks for no costs."""
        return None


@dataclass(frozen=True, slots=True)
class Rule:
    """An action for events on which a feature holds, whatever their score.

    Rules are features, so they are computed, logged, replayed and audited as all features are: an on-demand view over the request
    (``amount > 10_000``), a velocity over window counts (``payments in 10 minutes > 5``), a `KeyList` to allow or to block.

    Parameters
    ----------
    name
        The rule's name, as decisions record it.
    when
        ``"view.feature"``: a Bool feature of the endpoint. Null, as where the feature's function failed, does not fire. Or a
        `KeyList`: the events whose key it holds; the endpoint's features need not name it.
    action
        What is done; the policy's default to let events pass.

    Examples
    --------
    >>> Rule("blocked card", when="lists.blocked", action="block").action
    'block'
    """

    name: str
    when: str | KeyList
    action: str
    key_list: KeyList | None = field(default=None, init=False, repr=False, compare=False)
    """The list that `when` named; `when` is then the list's feature."""

    def __post_init__(self) -> None:
        if isinstance(self.when, KeyList):
            object.__setattr__(self, "key_list", self.when)
            object.__setattr__(self, "when", self.when.feature)
        name: object = self.name
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise DefinitionError(
                f'Rule: name is {name!r}; allowed is printable text. Write for example "blocked card".'
            )
        when: object = self.when
        if not isinstance(when, str) or "." not in when.strip("."):
            raise DefinitionError(
                f'Rule {name!r}: when is {when!r}; allowed are a feature with its view, and a KeyList. Write for example when="lists.blocked".'
            )
        check_name(self.action, what=f"Rule {name!r}, action")

    @property
    def feature(self) -> str:
        """The feature that it looks at."""
        return str(self.when)


@dataclass(frozen=True, slots=True, init=False)
class Policy:
    """Turns rules and a score into an action.

    The first rule that holds decides. Where none holds it is the action with the highest threshold that the score reaches, and
    `default` below all of them.

    Parameters
    ----------
    name
        The policy's name.
    actions
        ``{action: threshold}``, where a threshold is a number, a `CostOptimal` or, for anomalies, an `AlertBudget`; a score at or above it takes the action. It may
        be empty where there are rules: the score is then logged and decides nothing.
    default
        The action below all thresholds.
    costs
        What wrong decisions cost; used in evaluation, to choose thresholds, and in backtests.
    rules
        In order of priority: an allow rule before a block rule lets pass what both hold for.
    explore
        The share of events that get the default action although their score means another one, so that their label becomes known:
        a number for all actions, or ``{action: share}`` for those after which no label comes. What a rule decides is never
        explored. Such decisions have the flag ``explored``, and their propensity with them.
    cap
        The most alerts a day; None: no limit. Unlike `CostOptimal(alerts_per_day=...)`, which sets a threshold that keeps a budget on
        average, it is kept every day, while events come in.

    Examples
    --------
    >>> policy = Policy("card", actions={"block": 0.9, "review": 0.5})
    >>> policy.actions
    (('review', 0.5), ('block', 0.9))
    >>> Policy(
    ...     "card",
    ...     actions={"block": 0.9},
    ...     rules=[Rule("vip", when="lists.vip", action="approve")],
    ...     explore=0.01,
    ... ).explore
    (('block', 0.01),)
    """

    name: str
    actions: tuple[tuple[str, float], ...]
    """With the threshold while none is chosen, ascending."""
    default: str
    costs: CostMatrix | None
    rules: tuple[Rule, ...]
    explore: tuple[tuple[str, float], ...]
    chosen: tuple[tuple[str, CostOptimal | AlertBudget], ...]
    """The actions whose thresholds versions bring along, each with the costs that count for it."""
    cap: AlertCap | None

    def __init__(
        self,
        name: str,
        *,
        actions: Mapping[str, float | CostOptimal | AlertBudget],
        default: str = "approve",
        costs: CostMatrix | None = None,
        rules: Sequence[Rule] = (),
        explore: float | Mapping[str, float] = 0.0,
        cap: AlertCap | None = None,
    ) -> None:
        what = f"Policy {check_name(name, what='Policy')!r}"
        checked = _check_rules(rules, owner=what)
        fixed = _check_actions(actions, owner=what, may_be_empty=bool(checked))
        check_name(default, what=f"{what}, default")
        if default in actions:
            raise DefinitionError(
                f"{what}: default {default!r} is one of the actions {dict(actions)!r}; allowed is an action without a "
                "threshold. Rename one of the two."
            )
        if costs is not None and not isinstance(costs, CostMatrix):
            raise DefinitionError(
                f"{what}: costs is {costs!r}; allowed are a CostMatrix and None. Write for example "
                'CostMatrix(false_positive=5.0, false_negative="amount").'
            )
        ordered = tuple(sorted(((a, float(t)) for a, t in fixed.items()), key=lambda item: item[1]))
        for attribute, value in (
            ("name", name),
            ("actions", ordered),
            ("default", default),
            ("costs", costs),
            ("rules", checked),
            ("explore", tuple(_explored(explore, fixed, owner=what))),
            ("chosen", tuple(_chosen(actions, costs, owner=what))),
        ):
            object.__setattr__(self, attribute, value)
        object.__setattr__(self, "cap", _checked_cap(cap, self.action_names, owner=what))

    @property
    def action_names(self) -> tuple[str, ...]:
        """All that it may decide: the default, the actions of the score by threshold, those that only rules take."""
        named = (self.default, *(action for action, _ in self.actions), *(rule.action for rule in self.rules))
        return tuple(dict.fromkeys(named))


def _checked_cap(cap: object, names: Sequence[str], *, owner: str) -> AlertCap | None:
    if cap is None:
        return None
    if not isinstance(cap, AlertCap):
        raise DefinitionError(
            f"{owner}: cap is {cap!r}; allowed are an AlertCap and None. Write for example cap=AlertCap(200)."
        )
    return cap.of_policy(names, owner=owner)


def _check_actions(actions: object, *, owner: str, may_be_empty: bool) -> dict[str, float]:
    """Each action's threshold, as it is or until one is chosen."""
    if not isinstance(actions, Mapping) or not (actions or may_be_empty):
        raise DefinitionError(
            f"{owner}: actions is {actions!r}; allowed is a dict of at least one action and its threshold, or an empty one "
            'beside rules. Write for example actions={"block": 0.9}.'
        )
    fixed = {a: t.until if isinstance(t, CostOptimal | AlertBudget) else t for a, t in actions.items()}
    for action, threshold in fixed.items():
        check_name(action, what=f"{owner}, action")
        _check_threshold(threshold, what=f"{owner}: the threshold of {action!r}")
    if len(set(fixed.values())) < len(fixed):
        raise DefinitionError(
            f"{owner}: actions are {dict(actions)!r}; allowed are different thresholds. Change one, or remove it."
        )
    return fixed


def _check_threshold(value: object, *, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise DefinitionError(f"{what} is {value!r}; allowed is a number. Write for example 0.9.")


def _check_rules(rules: object, *, owner: str) -> tuple[Rule, ...]:
    if not isinstance(rules, list | tuple) or not all(isinstance(rule, Rule) for rule in rules):
        raise DefinitionError(
            f'{owner}: rules is {rules!r}; allowed is a list of Rule. Write for example rules=[Rule("blocked card", '
            'when="lists.blocked", action="block")].'
        )
    names = [rule.name for rule in rules]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or len(rules) > MOST_ACTIONS - 1:
        raise DefinitionError(
            f"{owner}: it has {len(rules)} rules, rule {repeated[0] if repeated else names[-1]!r} among them "
            f"{'twice' if repeated else ''}; allowed are {MOST_ACTIONS - 1} rules of different names. Rename or merge them."
        )
    return tuple(rules)


def _explored(explore: object, actions: Mapping[str, float], *, owner: str) -> Iterator[tuple[str, float]]:
    """Action and share of what is explored."""
    shares: Mapping[str, object] = (
        explore if isinstance(explore, Mapping) else dict.fromkeys(actions, explore)
    )
    for action, share in shares.items():
        if action not in actions:
            raise DefinitionError(
                f"{owner}: explore names {action!r}; its score decides {', '.join(actions) or 'nothing'}. Name one of these."
            )
        if not isinstance(share, int | float) or not _is_number(share) or not 0 <= share < 1:
            raise DefinitionError(
                f"{owner}: explore is {explore!r}; allowed are shares of at least 0 and below 1. Write for example explore=0.01."
            )
        if share:
            yield action, float(share)


def _chosen(
    actions: Mapping[str, float | CostOptimal | AlertBudget], costs: CostMatrix | None, *, owner: str
) -> Iterator[tuple[str, CostOptimal | AlertBudget]]:
    for action, threshold in actions.items():
        if isinstance(threshold, AlertBudget):
            yield action, threshold
        if not isinstance(threshold, CostOptimal):
            continue
        own = threshold.costs or costs
        if own is None:
            raise DefinitionError(
                f"{owner}: the threshold of {action!r} is to be chosen by cost, and no costs are given. Write "
                'costs=CostMatrix(false_positive=5.0, false_negative="amount").'
            )
        yield action, CostOptimal(threshold.until, own, threshold.alerts_per_day)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
