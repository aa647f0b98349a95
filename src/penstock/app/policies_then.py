"""What the policy of a digest was: from the definitions that were applied, newest first, and from those of now.

A decision names the digest of the policy that made it. Applied definitions hold each endpoint's policy whole, since the version of
Penstock that keeps them so; of a policy that was out of force before then nothing but the digest is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.app.applied import AppliedHistory
from penstock.app.runtime import state_folder
from penstock.core.errors import InputError, NotFoundError
from penstock.core.time import from_us

if TYPE_CHECKING:
    from penstock.plan.nodes import EndpointNode

LEAST = 4
"""Characters of a digest that name it."""


@dataclass(frozen=True, slots=True)
class InForce:
    """A time when an endpoint decided by a policy: from a version of the definitions on, until another one (None: still)."""

    endpoint: str
    version: int
    from_us: int
    until_us: int | None
    actor: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "endpoint": self.endpoint,
            "version": self.version,
            "from": from_us(self.from_us).isoformat(),
            "until": None if self.until_us is None else from_us(self.until_us).isoformat(),
            "actor": self.actor,
            "reason": self.reason,
        }


@dataclass(slots=True)
class KnownPolicy:
    """A policy that is or was in force.

    Attributes
    ----------
    terms
        As `penstock.plan.policies.described_policy` gives it: thresholds, rules, exploration, cap, costs.
    times
        When it was, oldest first.
    """

    terms: dict[str, Any]
    times: list[InForce] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """As decisions name it."""
        return str(self.terms["digest"])

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**self.terms, "in_force": [one.to_dict() for one in self.times]}


def known_policies(root: Path) -> list[KnownPolicy]:
    """The policies that endpoints of the project in `root` decided by, the newest first."""
    found: dict[str, KnownPolicy] = {}
    for terms, time in _times(root):
        known = found.pop(terms["digest"], None) or KnownPolicy(terms)
        known.terms = terms  # costs that no threshold is chosen by are no part of the digest
        known.times.append(time)
        found[known.digest] = known
    return list(found.values())[::-1]


def policy_of_digest(root: Path, digest: str) -> KnownPolicy:
    """The policy of a digest, or of the beginning of one.

    Raises
    ------
    NotFoundError
        No applied definitions have it.
    InputError
        The beginning is too short, or of several.
    """
    if len(digest) < LEAST:
        raise InputError(
            f"policy {digest!r}: allowed are at least {LEAST} characters of a digest. Give more."
        )
    known = known_policies(root)
    found = [one for one in known if one.digest.startswith(digest)]
    if not found:
        listed = ", ".join(one.digest for one in known[:5]) or "none yet"
        raise NotFoundError(
            f"policy {digest[:64]!r}: no applied definitions have it; known are {listed}. Choose one of `penstock policies`; one that was out of "
            "force before Penstock kept policies is in the project's own version control only."
        )
    if len(found) > 1:
        raise InputError(
            f"policy {digest!r}: {', '.join(one.digest for one in found)} begin so. Give more characters."
        )
    return found[0]


def endpoint_then(root: Path, endpoint: EndpointNode, digest: str) -> EndpointNode | None:
    """The endpoint as it decided by the policy of a digest: its name, actions and thresholds; None where nobody knows them any more."""
    if digest in {"", endpoint.policy_version}:
        return endpoint
    terms = next((one.terms for one in known_policies(root) if one.digest == digest), None)
    if terms is None:
        return None
    return replace(
        endpoint,
        policy=terms["name"],
        policy_version=digest,
        actions=(terms["default"], *(one["action"] for one in terms["actions"])),
        thresholds=tuple(one["threshold"] for one in terms["actions"]),
        chosen=tuple(one["action"] for one in terms["actions"] if one["chosen"]),
    )


def _times(root: Path) -> Iterator[tuple[dict[str, Any], InForce]]:
    """Policies with the times that endpoints had them, in the order in which they began."""
    open_: dict[str, tuple[dict[str, Any], InForce]] = {}
    ended: list[tuple[dict[str, Any], InForce]] = []
    for applied in AppliedHistory(state_folder(root)).all():
        now = {one["name"]: one.get("terms") for one in applied.description["endpoints"]}
        for name, (terms, time) in list(open_.items()):
            if now.get(name) is None or now[name] != terms:
                ended.append((terms, _until(time, applied.applied_us)))
                del open_[name]
        for name, terms in now.items():
            if terms is not None and name not in open_:
                start = InForce(
                    name, applied.version, applied.applied_us, None, applied.actor, applied.reason
                )
                open_[name] = terms, start
    yield from sorted([*ended, *open_.values()], key=lambda one: (one[1].version, one[1].endpoint))


def _until(time: InForce, until_us: int) -> InForce:
    return InForce(time.endpoint, time.version, time.from_us, until_us, time.actor, time.reason)
