"""Decisions: from scores to actions, and the form in which a micro-batch of them is stored."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from enum import IntFlag

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import structs

from penstock.core.errors import CorruptionError, ModelError
from penstock.engine.assembly import FeatureRows
from penstock.engine.routing import DecidedBy, Events, Route, RouteArm, choose_arms, unit_draws
from penstock.kernel.columns import BoolArray, IntArray
from penstock.plan.nodes import EndpointNode

FloatArray = npt.NDArray[np.float64]
ByteArray = npt.NDArray[np.uint8]
VersionArray = npt.NDArray[np.uint32]


class Flag(IntFlag):
    """What a decision has to say about itself, besides its action."""

    LATE = 1
    TOO_LATE = 2
    DEGRADED = 4
    """A feature function failed on the event, or the model gave no number."""
    NO_MODEL = 8
    """No model version was in production."""
    ERASED = 16
    """The event was forgotten; score and features are gone."""
    UNVERIFIABLE = 32
    """An event that its features had seen was forgotten; they cannot be recomputed."""
    EXPLORED = 64
    """Its score meant another action; it got the default, so that its label becomes known."""
    OVER_BUDGET = 128
    """The day had as many alerts as the policy allows; it got the action that is taken then."""


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    format: int
    arms: tuple[DecidedBy, ...]
    service: str
    features: int
    actions: tuple[str, ...]
    scores: bytes
    taken: bytes
    flags: bytes
    vectors: bytes
    by: bytes
    """Empty where one arm decided on all."""
    policy: str = ""
    rules: tuple[str, ...] = ()
    fired: bytes = b""
    """Empty where no rule fired."""
    explore: tuple[float, ...] = ()
    meant: bytes = b""
    """Empty where nothing was explored or over the budget."""
    lists: tuple[str, ...] = ()
    list_versions: bytes = b""
    """Of each event, or once for all."""


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Stored)


# As NumPy numbers: IntFlag arithmetic would cost microseconds an event.
_DEGRADED, _NO_MODEL = np.uint8(Flag.DEGRADED), np.uint8(Flag.NO_MODEL)
_EXPLORED, _OVER_BUDGET = np.uint8(Flag.EXPLORED), np.uint8(Flag.OVER_BUDGET)

_CODES = np.arange(256, dtype=np.uint8).reshape(-1, 1)
_CODES.setflags(write=False)
_ONE_CODE = list(_CODES)
"""The codes of one event, for all to share."""


class Decisions(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The decisions on a batch of events.

    Attributes
    ----------
    arms
        Who decided on some of them.
    service
        Fingerprint of the feature service whose rows `vectors` are.
    actions
        Names of the actions, by code.
    scores
        float64[n]; NaN without a model.
    taken
        uint8[n]: codes into `actions`.
    flags
        uint8[n]: bits of `Flag`.
    vectors
        float64[n, F]: the features as served, NaN for null.
    by
        uint8[n]: who decided, as indices into `arms`; None where the first decided on all.
    policy
        A digest of the policy that was in force.
    rules, fired
        Names of its rules, and uint8[n]: which one decided, from 1 on (0: the score did); None where none fired.
    explore
        For each action the share of events that got the default in its place; empty where nothing is explored.
    meant
        uint8[n]: for events that were explored, or over the budget of alerts, the code of the action that would have been taken; None
        where none was.
    lists, list_versions
        Names of the lists of keys among its features, and uint32[n, L] or [1, L]: the version of each that was in force, which is how
        often it had been changed; None where there are no lists.
    """

    arms: tuple[DecidedBy, ...]
    service: str
    actions: tuple[str, ...]
    scores: FloatArray
    taken: ByteArray
    flags: ByteArray
    vectors: FloatArray
    by: ByteArray | None = None
    policy: str = ""
    rules: tuple[str, ...] = ()
    fired: ByteArray | None = None
    explore: tuple[float, ...] = ()
    meant: ByteArray | None = None
    lists: tuple[str, ...] = ()
    list_versions: VersionArray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def to_bytes(self) -> bytes:
        """The batch as bytes, for `DecisionBatch.payload`; the store adds the checksum."""
        stored = _Stored(
            2,
            self.arms,
            self.service,
            self.vectors.shape[1],
            self.actions,
            self.scores.tobytes(),
            self.taken.tobytes(),
            self.flags.tobytes(),
            self.vectors.tobytes(),
            b"" if self.by is None else self.by.tobytes(),
            self.policy,
            self.rules,
            b"" if self.fired is None else self.fired.tobytes(),
            self.explore,
            b"" if self.meant is None else self.meant.tobytes(),
            self.lists,
            b"" if self.list_versions is None else self.list_versions.tobytes(),
        )
        return _ENCODER.encode(stored)

    @classmethod
    def from_bytes(cls, data: bytes) -> Decisions:
        """The batch of `to_bytes`."""
        try:
            stored = _DECODER.decode(data)
        except msgspec.DecodeError as error:
            raise CorruptionError(
                f"decisions: the stored bytes cannot be read ({error}). Restore the project's database from a backup."
            ) from error
        return cls(
            stored.arms,
            stored.service,
            stored.actions,
            np.frombuffer(stored.scores, np.float64),
            np.frombuffer(stored.taken, np.uint8),
            np.frombuffer(stored.flags, np.uint8),
            np.frombuffer(stored.vectors, np.float64).reshape(-1, max(stored.features, 1))[
                :, : stored.features
            ],
            _codes(stored.by),
            stored.policy,
            stored.rules,
            _codes(stored.fired),
            stored.explore,
            _codes(stored.meant),
            stored.lists,
            np.frombuffer(stored.list_versions, np.uint32).reshape(-1, len(stored.lists))
            if stored.lists
            else None,
        )

    @property
    def header(self) -> tuple[object, ...]:
        """What all of them have in common: decisions with equal headers can be joined."""
        return self.arms, self.service, self.actions, self.policy, self.rules, self.explore, self.lists

    def take(self, rows: IntArray | BoolArray) -> Decisions:
        """The decisions at these rows."""
        return Decisions(
            self.arms,
            self.service,
            self.actions,
            self.scores[rows],
            self.taken[rows],
            self.flags[rows],
            self.vectors[rows],
            None if self.by is None else self.by[rows],
            self.policy,
            self.rules,
            None if self.fired is None else self.fired[rows],
            self.explore,
            None if self.meant is None else self.meant[rows],
            self.lists,
            None if self.list_versions is None else _some_versions(self.list_versions, rows),
        )

    def rule(self, row: int) -> str | None:
        """The rule that decided on the event of this row; None where the score did."""
        code = 0 if self.fired is None else int(self.fired[row])
        return self.rules[code - 1] if code else None

    def versions_of_lists(self, row: int) -> dict[str, int]:
        """By list the version that was in force when the event of this row was decided."""
        if self.list_versions is None:
            return {}
        versions = self.list_versions[row if len(self.list_versions) > 1 else 0]
        return dict(zip(self.lists, versions.tolist(), strict=True))

    def propensity(self, row: int) -> float | None:
        """How likely it was that the event of this row got the default; None where it was not explored."""
        explored = self.meant is not None and self.flags[row] & _EXPLORED
        return self.explore[int(self.meant[row])] if self.meant is not None and explored else None

    def label_weights(self) -> FloatArray:
        """What each label counts for, so that labelled events stand for all: float64[n].

        One where nothing was explored. An explored event stands for those that were like it and were not let through: one over its
        propensity. Those count nothing, even if a label of them becomes known, or they would count twice; nor do those that the budget
        of alerts let through.
        """
        weights = np.ones(len(self))
        if not self.explore:
            return weights
        shares = np.array(self.explore)
        by_score = True if self.fired is None else self.fired == 0
        weights[(shares[self.taken] > 0) & by_score] = 0.0
        if self.meant is not None:
            explored = np.flatnonzero(self.flags & _EXPLORED)
            weights[explored] = 1.0 / shares[self.meant[explored]]
            weights[((self.flags & _OVER_BUDGET) > 0) & (shares[self.meant] > 0) & by_score] = 0.0
        return weights

    @property
    def decided(self) -> ByteArray:
        """What the policy decided, before exploration and the day's budget of alerts: codes into `actions`, uint8[n]."""
        if self.meant is None:
            return self.taken
        changed = (self.flags & (_EXPLORED | _OVER_BUDGET)) > 0
        return np.where(changed, self.meant, self.taken)

    def decided_by(self, row: int) -> DecidedBy:
        """Who decided on the event of this row."""
        return self.arms[0 if self.by is None else int(self.by[row])]

    def of_version(self, label: str) -> BoolArray:
        """Which decisions this version made; copies of one that learns (``NAME:VERSION+LABELS``) are of it."""
        own = np.array([arm.version.partition("+")[0] == label for arm in self.arms])
        found: BoolArray = np.full(len(self), own[0]) if self.by is None else own[self.by]
        return found

    def versions(self) -> list[str | None]:
        """The model version behind each decision; None where there was none."""
        names = [arm.version or None for arm in self.arms]
        return [names[0]] * len(self) if self.by is None else [names[i] for i in self.by.tolist()]

    def replacing(self, *, flags: ByteArray) -> Decisions:
        """The same decisions with other flags."""
        return structs.replace(self, flags=flags)


def concat_decisions(parts: Sequence[Decisions]) -> Decisions:
    """The decisions of several batches with equal headers, one after another."""
    if len(parts) == 1:
        return parts[0]
    return structs.replace(
        parts[0],
        scores=np.concatenate([p.scores for p in parts]),
        taken=np.concatenate([p.taken for p in parts]),
        flags=np.concatenate([p.flags for p in parts]),
        vectors=np.concatenate([p.vectors for p in parts]),
        by=_concat_codes([p.by for p in parts], parts),
        fired=_concat_codes([p.fired for p in parts], parts),
        meant=_concat_codes([p.meant for p in parts], parts),
        list_versions=_concat_versions(parts),
    )


def _concat_versions(parts: Sequence[Decisions]) -> VersionArray | None:
    found = [p.list_versions for p in parts if p.list_versions is not None]
    if not found or all(len(one) == 1 and np.array_equal(one, found[0]) for one in found):
        return found[0] if found else None
    whole = [np.broadcast_to(one, (len(p), len(p.lists))) for one, p in zip(found, parts, strict=True)]
    return np.concatenate(whole)


def _some_versions(versions: VersionArray, rows: IntArray | BoolArray) -> VersionArray:
    return versions if len(versions) == 1 else versions[rows]


def _concat_codes(codes: Sequence[ByteArray | None], parts: Sequence[Decisions]) -> ByteArray | None:
    if all(one is None for one in codes):
        return None
    filled = [np.zeros(len(p), np.uint8) if c is None else c for c, p in zip(codes, parts, strict=True)]
    return np.concatenate(filled)


def choose_actions(scores: FloatArray, thresholds: Sequence[float]) -> ByteArray:
    """For each score the number of ascending `thresholds` that it reaches: the code of its action.

    A score that is not a number reaches none.

    >>> choose_actions(np.array([0.2, 0.5, 0.95, np.nan]), (0.5, 0.9)).tolist()
    [0, 1, 2, 0]
    """
    return _actions(scores, thresholds, _unknown(scores))


def decide(
    endpoint: EndpointNode, features: FeatureRows, route: Route, service: str, events: Callable[[], Events]
) -> Decisions:
    """Score feature rows by the arms of `route` and choose actions. Pure.

    `events` gives the events' columns and positions; it is asked only where arms share them, or some are explored.
    """
    vectors = features.values
    flags = features.lateness  # 1 and 2 are Flag.LATE and Flag.TOO_LATE
    if b"\1" in features.degraded.tobytes():  # bytes are searched faster than arrays, few and many
        flags = np.where(features.degraded, flags | _DEGRADED, flags)
    arms, by = route.serving, None
    if not arms:
        scores = np.full(len(vectors), np.nan)
    elif len(arms) == 1:
        scores = _scores(arms[0], vectors)
    else:
        by = choose_arms(route, *events())
        scores = _shared_scores(arms, by, vectors)
    unknown = _unknown(scores)
    if unknown is not None:
        flags = np.where(unknown, flags | (_DEGRADED if arms else _NO_MODEL), flags)
    scored = Decisions(
        arms=route.named,
        service=service,
        actions=endpoint.actions,
        scores=scores,
        taken=_by_score(endpoint, arms, by, scores, unknown),
        flags=flags,
        vectors=vectors,
        by=by,
        policy=endpoint.policy_version,
    )
    if endpoint.rules or endpoint.explore:
        return beside_score(endpoint, scored, lambda: events()[1])
    return scored


def _by_score(
    endpoint: EndpointNode,
    arms: Sequence[RouteArm],
    by: ByteArray | None,
    scores: FloatArray,
    unknown: BoolArray | None,
) -> ByteArray:
    """The actions that scores mean, by the thresholds of the endpoint or of the version that gave them."""
    if by is None:
        own = arms[0].thresholds if arms else None
        return _actions(scores, endpoint.thresholds if own is None else own, unknown)
    taken = _actions(scores, endpoint.thresholds, unknown)
    for i, arm in enumerate(arms):
        if arm.thresholds is not None:
            rows = np.flatnonzero(by == i)
            taken[rows] = _actions(scores[rows], arm.thresholds, None if unknown is None else unknown[rows])
    return taken


def beside_score(endpoint: EndpointNode, scored: Decisions, positions: Callable[[], IntArray]) -> Decisions:
    """What rules and exploration make of decisions by score. Pure.

    The first rule that holds for an event decides on it. Of the others, a share of those that would not get the default does, drawn by
    a hash of the event's position: the same for whoever decides on it again.
    """
    taken, flags = scored.taken, scored.flags
    rules = endpoint.rules
    fired = meant = None
    if rules:
        held = scored.vectors[:, [rule.column for rule in rules]] > 0  # null holds not
        if np.count_nonzero(held):
            fired = np.where(held.any(axis=1), held.argmax(axis=1) + 1, 0).astype(np.uint8)
            codes = np.array([0, *(rule.action for rule in rules)], np.uint8)
            taken = np.where(fired > 0, codes[fired], taken)
    if endpoint.explore and np.count_nonzero(taken):
        shares = np.array(endpoint.explore)[scored.taken]
        draws = unit_draws(positions().astype(np.uint64), f"{endpoint.name}/explore")
        explored = draws < (shares if fired is None else np.where(fired > 0, 0.0, shares))
        if np.count_nonzero(explored):
            meant = np.where(explored, scored.taken, 0).astype(np.uint8)
            taken = np.where(explored, np.uint8(0), taken)
            flags = np.where(explored, flags | _EXPLORED, flags)
    return structs.replace(
        scored,
        taken=taken,
        flags=flags,
        rules=tuple([rule.name for rule in rules]),
        fired=fired,
        explore=endpoint.explore,
        meant=meant,
    )


def _codes(data: bytes) -> ByteArray | None:
    return np.frombuffer(data, np.uint8) if data else None


def _unknown(scores: FloatArray) -> BoolArray | None:
    """Which scores are not numbers; None where all are."""
    if len(scores) == 1:
        return None if (score := scores.item()) == score else np.ones(1, np.bool_)
    unknown = np.isnan(scores)
    return unknown if np.count_nonzero(unknown) else None


def _actions(scores: FloatArray, thresholds: Sequence[float], unknown: BoolArray | None) -> ByteArray:
    if len(scores) == 1:
        return _ONE_CODE[0 if unknown is not None and unknown[0] else bisect_right(thresholds, scores.item())]
    taken = np.asarray(thresholds).searchsorted(scores, side="right").astype(np.uint8)
    if unknown is not None:  # they sort behind all thresholds, and must not count as having reached them
        taken[unknown] = 0
    return taken


def _scores(arm: RouteArm, vectors: FloatArray) -> FloatArray:
    """Scores; not a number where the model fails, so that the decision is degraded, not lost."""
    try:
        return arm.score(vectors)
    except ModelError:
        return np.full(len(vectors), np.nan)


def _shared_scores(arms: Sequence[RouteArm], by: ByteArray, vectors: FloatArray) -> FloatArray:
    scores = np.empty(len(vectors))
    for i, arm in enumerate(arms):
        rows = np.flatnonzero(by == i)
        if len(rows):
            scores[rows] = _scores(arm, vectors[rows])
    return scores
