"""Policies as the engine runs them: names resolved to codes and columns, and a digest that changes when decisions could."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from penstock.definitions.policies import AlertBudget, CostOptimal, Policy
from penstock.plan.nodes import CapNode, EndpointNode, RuleNode


def with_policy(endpoint: EndpointNode, policy: Policy, features: Sequence[str]) -> EndpointNode:
    """The endpoint with another policy, whose rules are about its `features`, in the order of its rows."""
    names = policy.action_names
    rules = tuple(
        RuleNode(rule.name, rule.feature, features.index(rule.feature), names.index(rule.action))
        for rule in policy.rules
    )
    shares, cap = dict(policy.explore), policy.cap
    return replace(
        endpoint,
        policy=policy.name,
        actions=names,
        thresholds=tuple(threshold for _, threshold in policy.actions),
        rules=rules,
        explore=tuple(shares.get(name, 0.0) for name in names) if shares else (),
        chosen=tuple(action for action, _ in policy.chosen),
        policy_version=policy_digest(policy),
        terms=policy,
        cap=None
        if cap is None
        else CapNode(
            cap.per_day,
            tuple(names.index(action) for action in cap.actions),
            names.index(cap.instead or policy.default),
        ),
    )


def described_policy(policy: Policy) -> dict[str, Any]:
    """A policy as JSON values, with all that its digest covers, and its costs.

    >>> described_policy(Policy("a", actions={"block": 0.9}))["actions"]
    [{'action': 'block', 'threshold': 0.9, 'chosen': None}]
    """
    chosen = dict(policy.chosen)
    return {
        "digest": policy_digest(policy),
        "name": policy.name,
        "default": policy.default,
        "actions": [
            {"action": action, "threshold": threshold, "chosen": _described_choice(chosen.get(action))}
            for action, threshold in policy.actions
        ],
        "rules": [
            {
                "rule": rule.name,
                "when": rule.feature,
                "action": rule.action,
                "list": None if rule.key_list is None else rule.key_list.name,
            }
            for rule in policy.rules
        ],
        "explore": dict(policy.explore),
        "cap": None if policy.cap is None else asdict(policy.cap) | {"actions": list(policy.cap.actions)},
        "costs": None if policy.costs is None else asdict(policy.costs),
    }


def _described_choice(choice: CostOptimal | AlertBudget | None) -> dict[str, Any] | None:
    """How the threshold of an action is chosen for each version; None where it is a number."""
    if choice is None:
        return None
    costs = None if choice.costs is None else asdict(choice.costs)
    return {
        "by": "cost" if isinstance(choice, CostOptimal) else "alerts",
        "until": choice.until,
        "alerts_per_day": choice.alerts_per_day,
        "costs": costs,
    }


def policy_digest(policy: Policy) -> str:
    """Equal for policies that decide alike, given the thresholds that versions bring along.

    >>> a, b = (Policy(name, actions={"block": 0.9}) for name in "ab")
    >>> (
    ...     policy_digest(a) == policy_digest(b),
    ...     policy_digest(a) == policy_digest(Policy("a", actions={"block": 0.8})),
    ... )
    (True, False)
    """
    meaning: tuple[object, ...] = (
        policy.default,
        policy.actions,
        policy.rules,
        policy.explore,
        policy.chosen,
        *([] if policy.cap is None else [policy.cap]),
    )
    return hashlib.sha256(repr(meaning).encode()).hexdigest()[:16]
