"""What is to be counted of a micro-batch, found once for metrics and live history: arrays in, a few numbers out.

It costs some microseconds a micro-batch, whatever the number of its events. Nothing here names a key or an event: what numbers are counted by
are names of definitions, model versions and reasons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.engine.decisions import Flag

if TYPE_CHECKING:
    from penstock.engine.decisions import Decisions
    from penstock.engine.effects import Outcome
    from penstock.engine.local import Processed
    from penstock.plan.nodes import Plan

IntArray = npt.NDArray[np.int64]

SCORE_EDGES = (
    *(0.001, 0.005, 0.01, 0.02),
    *(round(0.05 * step, 2) for step in range(1, 20)),
    *(0.98, 0.99, 0.995, 0.999, 1.0),
)
"""Upper ends of the steps in which scores are counted, the ends of [0, 1] more finely; what is above counts in a step of its own."""
SCORE_STEPS = len(SCORE_EDGES) + 1
_EDGES = np.array(SCORE_EDGES)

FLAGS = {
    Flag.DEGRADED: "degraded",
    Flag.NO_MODEL: "no_model",
    Flag.EXPLORED: "explored",
    Flag.OVER_BUDGET: "over_budget",
}
"""Flags of decisions that are counted by endpoint; those about lateness are counted by source."""


class Decided(NamedTuple):
    """What one arm decided.

    Attributes
    ----------
    endpoint, arm, version
        Who; of a version that goes on learning without its number of labels. Empty texts where there was no model.
    actions, taken
        Names of the actions, the default first, and how many events got each.
    scores, score_sum
        int64[`SCORE_STEPS`]: scores by `SCORE_EDGES`, and their sum; events without a score count in neither.
    """

    endpoint: str
    arm: str
    version: str
    actions: tuple[str, ...]
    taken: IntArray
    scores: IntArray
    score_sum: float

    @property
    def alerts(self) -> int:
        """Decisions with an action other than the default."""
        return int(self.taken[1:].sum())


class Came(NamedTuple):
    """What came from one source.

    Attributes
    ----------
    source, outcome
        Which, and what became of `accepted` rows: ``"scored"``, ``"logged"``, or ``"label"``.
    rejected
        Refused rows by reason.
    newest_us
        The latest event time among accepted rows; None where there are none.
    """

    source: str
    outcome: str
    received: int
    accepted: int
    duplicate: int
    rejected: dict[str, int]
    late: int
    too_late: int
    newest_us: int | None


class BatchFacts(NamedTuple):
    """A micro-batch in numbers.

    Attributes
    ----------
    flags, rules
        Decisions by endpoint and flag (`FLAGS`), and by endpoint and the rule that decided.
    positives, negatives
        Labels that were joined to their events, new and corrected ones: above 0, and the others.
    counters
        What the micro-batch added to the store's totals.
    """

    came: list[Came]
    decided: list[Decided]
    flags: dict[tuple[str, str], int]
    rules: dict[tuple[str, str], int]
    positives: int
    negatives: int
    counters: dict[str, int]


def facts_of(processed: Processed, plan: Plan) -> BatchFacts:
    """The numbers of a micro-batch that was processed under `plan`."""
    facts = BatchFacts([], [], {}, {}, 0, 0, dict(processed.counters))
    for outcome in processed.outcomes:
        facts.came.append(_came(outcome))
        endpoint = plan.endpoint_of.get(outcome.admitted.source.name)
        if endpoint is not None and outcome.decisions is not None and len(outcome.positions):
            facts.decided.extend(_decided(endpoint.name, outcome.decisions))
            _beside_score(facts, endpoint.name, outcome.decisions)
    if processed.labels is None:
        return facts
    positives = int(np.count_nonzero(processed.labels.values > 0))
    return facts._replace(positives=positives, negatives=len(processed.labels) - positives)


def _came(outcome: Outcome) -> Came:
    admitted, source = outcome.admitted, outcome.admitted.source
    late = too_late = 0
    if outcome.decisions is not None and np.count_nonzero(outcome.decisions.flags):
        flags = outcome.decisions.flags
        late = int(np.count_nonzero(flags & Flag.LATE.value))
        too_late = int(np.count_nonzero(flags & Flag.TOO_LATE.value))
    rejected: dict[str, int] = {}
    for refused in admitted.refused:
        rejected[refused.reason] = rejected.get(refused.reason, 0) + 1
    kind = "label" if source.label_of is not None else "logged" if outcome.decisions is None else "scored"
    return Came(
        source.name,
        kind,
        len(outcome.positions) + len(admitted.refused) if kind == "label" else admitted.received,
        len(outcome.positions),
        len(admitted.duplicates) + len(admitted.repeats),
        rejected,
        late,
        too_late,
        _newest(outcome),
    )


def _newest(outcome: Outcome) -> int | None:
    if not len(outcome.positions):
        return None
    times = outcome.admitted.columns[outcome.admitted.source.time_field].values  # type: ignore[union-attr]
    return int(times.item() if len(times) == 1 else times.max())


def _decided(endpoint: str, decisions: Decisions) -> list[Decided]:
    """One for each arm that decided on some event."""
    taken = _counts(decisions.taken, len(decisions.actions), decisions)
    known = decisions.scores == decisions.scores
    steps = np.searchsorted(_EDGES, decisions.scores)
    if known.all():
        scores = _counts(steps, SCORE_STEPS, decisions)
        sums = _sums(decisions.scores, decisions)
    else:
        steps[~known] = SCORE_STEPS
        scores = _counts(steps, SCORE_STEPS + 1, decisions)[:, :-1]
        sums = _sums(np.where(known, decisions.scores, 0.0), decisions)
    arms = decisions.arms[:1] if decisions.by is None else decisions.arms
    return [
        Decided(
            endpoint,
            who.arm,
            who.version.partition("+")[0],
            decisions.actions,
            taken[i],
            scores[i],
            float(sums[i]),
        )
        for i, who in enumerate(arms)
        if taken[i].any()
    ]


def _counts(codes: npt.NDArray[np.integer], kinds: int, decisions: Decisions) -> IntArray:
    """int64[arms, kinds]: how often each arm has each code."""
    if decisions.by is None:
        return np.bincount(codes, minlength=kinds).reshape(1, kinds)
    arms = len(decisions.arms)
    both = decisions.by.astype(np.int64) * kinds + codes
    return np.bincount(both, minlength=arms * kinds).reshape(arms, kinds)


def _sums(scores: npt.NDArray[np.float64], decisions: Decisions) -> npt.NDArray[np.float64]:
    if decisions.by is None:
        return np.array([scores.sum()])
    sums = np.bincount(decisions.by, weights=scores, minlength=len(decisions.arms))
    return sums.astype(np.float64, copy=False)


def _beside_score(facts: BatchFacts, endpoint: str, decisions: Decisions) -> None:
    if np.count_nonzero(decisions.flags):
        for flag, name in FLAGS.items():
            if count := int(np.count_nonzero(decisions.flags & flag.value)):
                facts.flags[endpoint, name] = count
    if decisions.fired is not None:
        fired = np.bincount(decisions.fired, minlength=len(decisions.rules) + 1)
        for rule, count in zip(decisions.rules, fired[1:].tolist(), strict=True):
            if count:
                facts.rules[endpoint, rule] = count
