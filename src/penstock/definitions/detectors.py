"""The detector of anomalies that comes with Penstock: an estimator of models whose task is ``"anomaly"``."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.core.errors import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestNeighbours:
    """How far a row is from those most like it among the newest, with all features scaled and decorrelated.

    It finds what has not been seen lately, whatever shapes the usual has. A state that lasts is strange at its beginning, and usual
    once enough of its rows are remembered.

    Parameters
    ----------
    window
        How many of the newest events are remembered; also the half-life of means and correlations.
    neighbours
        How many of the nearest count.

    Examples
    --------
    >>> NearestNeighbours(window=1_000).neighbours
    10
    """

    window: int = 4_000
    neighbours: int = 10

    def __post_init__(self) -> None:
        for name in ("window", "neighbours"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise DefinitionError(
                    f"NearestNeighbours: {name} is {value!r}; allowed is a whole number of at least 1. Leave it out for the "
                    "default."
                )
        if self.neighbours >= self.window:
            raise DefinitionError(
                f"NearestNeighbours: neighbours is {self.neighbours} and window {self.window}; allowed are fewer neighbours than "
                "events in the window. Write for example NearestNeighbours(window=4_000, neighbours=10)."
            )


def is_detector(estimator: object) -> bool:
    """Whether it can be the estimator of a model for anomalies: the one above, or a detector or pipeline of River."""
    river = hasattr(estimator, "learn_one") and hasattr(estimator, "score_one")
    return not isinstance(estimator, type) and (isinstance(estimator, NearestNeighbours) or river)
