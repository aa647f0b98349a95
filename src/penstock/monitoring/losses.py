"""The loss of a decision whose label is known: one rule for the test of a model and for what is listened to while it serves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MOST_LOSS = 7.0
"""Losses are bounded, so that no single one decides."""
_TINY = 1e-12


def losses(scores: FloatArray, labels: FloatArray, *, spread: float | None = None) -> FloatArray:
    """Log losses, at most 7; of a regression absolute errors in standard deviations of the labels. NaN without a score.

    Parameters
    ----------
    scores, labels
        Shape [n] both.
    spread
        The standard deviation of a regression's labels; None for classes.

    Examples
    --------
    >>> losses(np.array([0.5, 0.0]), np.array([1.0, 1.0])).round(2).tolist()
    [0.69, 7.0]
    """
    if spread is not None:
        found = np.abs(scores - labels) / (spread or 1.0)
    else:
        found = -np.log(np.clip(np.where(labels > 0, scores, 1.0 - scores), _TINY, 1.0))
    bounded: FloatArray = np.minimum(found, MOST_LOSS)
    return bounded
