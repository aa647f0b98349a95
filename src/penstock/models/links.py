"""From a model's raw sum to its score: one float64 formula each, the same for every path and batch size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LinkName = Literal["identity", "logit", "log"]
Link: TypeAlias = Callable[["NDArray[Any]"], "NDArray[np.float64]"]

_LARGEST_EXPONENT = 700.0


def identity(raw: NDArray[Any]) -> NDArray[np.float64]:
    """The raw sum itself."""
    return raw.astype(np.float64)


def sigmoid(raw: NDArray[Any]) -> NDArray[np.float64]:
    """The probability whose log-odds are `raw`.

    >>> sigmoid(np.array([0.0, 1000.0])).tolist()
    [0.5, 1.0]
    """
    # The bound keeps exp from overflowing, which would cost a warning; a probability of 1e-304 is zero to anyone.
    if len(raw) == 1:  # the same on one number: arrays of one cost several times the arithmetic
        return np.array((1.0 / (1.0 + float(np.exp(min(-float(raw[0]), _LARGEST_EXPONENT)))),))
    odds: NDArray[np.float64] = np.exp(np.minimum(-raw, _LARGEST_EXPONENT, dtype=np.float64))
    odds += 1.0
    np.divide(1.0, odds, out=odds)
    return odds


def exponential(raw: NDArray[Any]) -> NDArray[np.float64]:
    """The positive quantity whose logarithm is `raw`."""
    return np.asarray(np.exp(np.minimum(raw, _LARGEST_EXPONENT, dtype=np.float64)))


def corrected(scores: NDArray[np.float64], kept_negatives: float) -> NDArray[np.float64]:
    """Probabilities as they are, of a model that was fitted on that share of the negatives, drawn at random.

    The odds shrink by the share: with a tenth of the negatives, positives looked ten times as frequent.

    >>> corrected(np.array([0.0, 0.5, 1.0]), 0.1).round(4).tolist()
    [0.0, 0.0909, 1.0]
    """
    if kept_negatives == 1.0:
        return scores
    shrunk = scores * kept_negatives
    return np.asarray(shrunk / (shrunk + (1.0 - scores)))


def link_of(name: LinkName, kept_negatives: float = 1.0) -> Link:
    """The link of a model, with the correction for negatives that it was not given."""
    link = LINKS[name]
    return link if kept_negatives == 1.0 else lambda raw: corrected(link(raw), kept_negatives)


LINKS: dict[LinkName, Link] = {"identity": identity, "logit": sigmoid, "log": exponential}
