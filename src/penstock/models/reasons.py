"""Reasons: the features that moved a score most, in words.

A reason names a feature, says how its value compares with those that the model was trained on, and by how much it raised or
lowered the score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.attribution import Attribution


@dataclass(frozen=True, slots=True)
class Reason:
    """One feature's part in a score.

    `contribution` is in the space of the attribution (see `Attribution.space`). `value` is None where it was null.
    """

    feature: str
    value: float | None
    contribution: float
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """How a feature is called, and whether it is a yes or no."""

    phrase: str
    is_bool: bool = False


def reasons_of(
    attribution: Attribution,
    row: int,
    vector: NDArray[np.float64],
    *,
    features: Sequence[str],
    words: Sequence[Words],
    quantiles: NDArray[np.float64] | None,
    top: int | None = 3,
) -> tuple[Reason, ...]:
    """The reasons for the score of row `row`, the weightiest first.

    Parameters
    ----------
    vector
        The row's features, float64, shape [features]; NaN is null.
    words
        How each feature is called.
    quantiles
        Of each feature in training, shape [features, 5] (see `penstock.models.basis.QUANTILES`); None: not known.
    top
        How many; None: all, which add up to the raw score less the base.
    """
    contributions = attribution.values[row]
    order = np.argsort(-np.abs(contributions), kind="stable")
    return tuple(
        Reason(
            feature=features[i],
            value=None if math.isnan(vector[i]) else float(vector[i]),
            contribution=float(contributions[i]),
            text=sentence(words[i], float(vector[i]), None if quantiles is None else quantiles[i]),
        )
        for i in order[:top].tolist()
    )


def sentence(words: Words, value: float, quantiles: NDArray[np.float64] | None) -> str:
    """One feature's value, compared with what is usual.

    >>> usual = np.array([1.0, 10.0, 20.0, 30.0, 60.0])
    >>> sentence(Words("amount in the last hour"), 190.0, usual)
    'amount in the last hour is far above usual: 190, usually 10 to 30'
    >>> sentence(Words("amount in the last hour"), 25.0, usual)
    'amount in the last hour is as usual: 25'
    >>> (
    ...     sentence(Words("is_night", is_bool=True), 1.0, None),
    ...     sentence(Words("average amount"), math.nan, None),
    ... )
    ('is_night: yes', 'average amount is not known')
    """
    if math.isnan(value):
        return f"{words.phrase} is not known"
    if words.is_bool:
        return f"{words.phrase}: {'yes' if value else 'no'}"
    if quantiles is None or np.isnan(quantiles).any():
        return f"{words.phrase} is {value:.6g}"
    level = _level(value, quantiles)
    between = f", usually {_range(quantiles)}" if level != "as usual" else ""
    return f"{words.phrase} is {level}: {value:.6g}{between}"


def _level(value: float, quantiles: NDArray[np.float64]) -> str:
    lowest, low, _, high, highest = quantiles.tolist()
    if value > highest:
        return "far above usual"
    if value > high:
        return "above usual"
    if value < lowest:
        return "far below usual"
    return "below usual" if value < low else "as usual"


def _range(quantiles: NDArray[np.float64]) -> str:
    low, high = (f"{quantiles[i]:.4g}" for i in (1, 3))
    return low if low == high else f"{low} to {high}"
