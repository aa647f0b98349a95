"""Policies as the engine runs them: names resolved to codes and columns, and a digest that changes when decisions could."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from penstock.definitions.policies import Policy
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
        cap=None
        if cap is None
        else CapNode(
            cap.per_day,
            tuple(names.index(action) for action in cap.actions),
            names.index(cap.instead or policy.default),
        ),
    )


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
