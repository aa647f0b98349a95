"""In no group of rows may a version be worse than the champion: one test a segment, with all of them together held to one error rate.

A segment with fewer counted rows than `least` is not tested alone: such rows are pooled, and the pool is tested as one more segment. So
a fall that many small segments share is seen, and small segments hold no promotion up. What decides are one-sided p-values, adjusted
by Holm's method (A simple sequentially rejective multiple test procedure, 1979): the probability that any segment in which nothing is
worse rejects a version is at most ``(1 - confidence) / 2``, however many segments there are and however they overlap.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from penstock.models.bootstrap import Difference, mean_difference, share_difference
from penstock.models.gate_rules import Rule, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from penstock.definitions.gates import Gate

    BoolArray = NDArray[np.bool_]
    Compare = Callable[[BoolArray, float], "Compared"]  # on some rows, bool of shape [n], at a confidence

POOL = "other small segments"
MOST_LISTED = 5


class Compared(NamedTuple):
    """Challenger minus champion in one segment, and how likely so bad a difference is where nothing is worse."""

    difference: Difference
    p_value: float


def segments_rule(
    masks: Mapping[str, BoolArray], counted: BoolArray, compare: Compare, *, gate: Gate, least: int, what: str
) -> Iterator[Rule]:
    """The rule, where there are segments.

    Parameters
    ----------
    masks
        The rows of each segment, shape [n] each.
    counted
        The rows that say something: the positives where recalls are compared.
    compare
        How the two differ on some rows.
    least
        With fewer counted rows a segment is pooled with others.
    what
        What is compared, such as "recall".
    """
    if not masks:
        return
    tested, small = pooled(masks, counted, least)
    level = (1 - gate.confidence) / 2
    wide = 1 - 2 * level / max(len(tested), 1)  # so that all intervals together hold the truth
    found = {name: compare(rows, wide) for name, rows in tested.items()}
    adjusted = dict(zip(found, holm([one.p_value for one in found.values()]), strict=True))
    worse = [name for name in found if adjusted[name] <= level]
    unsaid = bool(small) and POOL not in tested
    numbers = {
        "segments": {
            name: asdict(one.difference)
            | {
                "rows": int(tested[name].sum()),
                "p": one.p_value,
                "adjusted_p": adjusted[name],
                "verdict": "fail" if name in worse else "pass",
            }
            for name, one in found.items()
        },
        "small": {name: int((masks[name] & counted).sum()) for name in small},
        "least": least,
    }
    verdict, text = _said(found, worse, small, what=what, unsaid=unsaid, gate=gate)
    yield Rule("segments", verdict, text, numbers)


def pooled(
    masks: Mapping[str, BoolArray], counted: BoolArray, least: int
) -> tuple[dict[str, BoolArray], list[str]]:
    """The counted rows of each segment that has enough of them, those of all others together if they have, and who the others are.

    >>> rows = np.arange(100)
    >>> masks = {"a": rows < 60, "b": (rows >= 60) & (rows < 85), "c": rows >= 85}
    >>> tested, small = pooled(masks, np.ones(100, bool), 30)
    >>> {name: int(rows.sum()) for name, rows in tested.items()}, small
    ({'a': 60, 'other small segments': 40}, ['b', 'c'])
    """
    tested: dict[str, BoolArray] = {}
    pool, small = np.zeros(len(counted), np.bool_), []
    for name, mask in masks.items():
        rows = mask & counted
        if rows.sum() >= least:
            tested[name] = rows
        else:
            small.append(name)
            pool |= rows
    if small and pool.sum() >= least:
        tested[POOL] = pool
    return tested, small


def recall_compared(gate: Gate, alarms: Sequence[BoolArray]) -> Compare:
    """Compares recalls: alarms of the challenger, then of the champion. The p-value is McNemar's, exact."""

    def compare(rows: BoolArray, confidence: float) -> Compared:
        ours, theirs = alarms[0][rows], alarms[1][rows]
        gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        found = share_difference(ours, theirs, confidence=confidence, **_drawing(gate))
        return Compared(found, _at_least(lost, gained + lost))

    return compare


def error_compared(gate: Gate, errors: Sequence[NDArray[np.float64]]) -> Compare:
    """Compares mean absolute errors, the challenger's first. The p-value is that of the paired mean, which is nearly normal."""

    def compare(rows: BoolArray, confidence: float) -> Compared:
        gaps = errors[0][rows] - errors[1][rows]
        found = mean_difference(gaps, confidence=confidence, **_drawing(gate))
        return Compared(found, _above_zero(gaps))

    return compare


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that those at most alpha bound the probability of any false rejection by alpha.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def _said(
    found: Mapping[str, Compared],
    worse: Sequence[str],
    small: Sequence[str],
    *,
    what: str,
    unsaid: bool,
    gate: Gate,
) -> tuple[Verdict, str]:
    note = ""
    if unsaid:
        note = f"; too few rows to say, also together: {_listed(small)}"
    elif small:
        note = f"; tested together, since each has few rows: {_listed(small)}"
    if worse:
        return (
            "fail",
            f"{what} is worse in {', '.join(f'{name}: {found[name].difference}' for name in worse)}{note}",
        )
    text = f"{what} is shown to be worse in none of {len(found)}{note}"
    return ("inconclusive" if unsaid and gate.strict_segments else "pass"), text


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _at_least(lost: int, changed: int) -> float:
    """How likely so many of the changed rows are lost where losing and gaining are alike."""
    from scipy.stats import binom

    return float(binom.sf(lost - 1, changed, 0.5)) if changed else 1.0


def _above_zero(gaps: NDArray[np.float64]) -> float:
    mean, error = float(gaps.mean()), float(gaps.std()) / math.sqrt(len(gaps))
    if not error:
        return 0.0 if mean > 0 else 1.0
    return 0.5 * math.erfc(mean / error / math.sqrt(2))


def _drawing(gate: Gate) -> dict[str, Any]:
    return {"resamples": gate.resamples, "rng": np.random.default_rng(0)}
