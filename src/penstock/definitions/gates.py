"""Gates: what a version of a model must show before it may decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.core.errors import DefinitionError
from penstock.core.types import check_name

_LIMITS: dict[str, tuple[float, float]] = {
    "max_false_positive_rate": (0.0, 1.0),
    "min_recall": (0.0, 1.0),
    "average_precision_margin": (0.0, 1.0),
    "max_latency_ms": (0.0, float("inf")),
}


@dataclass(frozen=True, slots=True, init=False)
class Gate:
    """What a version must show on a holdout of later data before it is promoted to Production.

    Challenger and champion score the same rows, each is judged at the threshold at which it serves. The first version has no
    champion to beat: only the absolute rules hold.

    Parameters
    ----------
    action
        The action whose threshold says what is an alarm; default: the one with the lowest threshold, so that everything
        but the policy's default is one.
    max_false_positive_rate
        Most alarms among the good rows, as a share.
    min_recall
        Least share of the bad rows that are found.
    average_precision_margin
        How large a fall of the average precision must be ruled out where the interval of the difference shows neither gain nor fall: all
        of it must lie above minus the margin. A fall that the interval shows fails, whatever the margin.
    max_latency_ms
        Most processor time for one row, at the 99th percentile, in milliseconds.
    segments
        Features (by their names, or what follows the last dot), or columns of the event; in no group of rows by one of them may the recall be shown to be worse (of a regression:
        the mean absolute error). Texts, truth values and whole numbers are groups by value, the 20 with the most rows and
        ``(other)``; other numbers by quarters. None: every Bool feature of the model.
    strict_segments
        Groups with too few rows are tested together. If even those are too few, strict means inconclusive; else that is noted only.
    min_positives
        With fewer bad rows in the holdout nothing is said about them: the verdict is *inconclusive*. A segment with fewer is
        tested together with others.
    min_rows
        The same for all rows of a regression's holdout and segments.
    confidence
        Of the intervals, which come from a paired bootstrap.
    resamples
        How many resamples it takes.

    Examples
    --------
    >>> Gate(max_false_positive_rate=0.01, segments=["is_night"]).segments
    ('is_night',)
    """

    action: str | None
    max_false_positive_rate: float
    min_recall: float
    average_precision_margin: float
    max_latency_ms: float
    segments: tuple[str, ...] | None
    strict_segments: bool
    min_positives: int
    min_rows: int
    confidence: float
    resamples: int

    def __init__(
        self,
        *,
        action: str | None = None,
        max_false_positive_rate: float = 0.02,
        min_recall: float = 0.0,
        average_precision_margin: float = 0.01,
        max_latency_ms: float = 5.0,
        segments: Sequence[str] | None = None,
        strict_segments: bool = False,
        min_positives: int = 30,
        min_rows: int = 100,
        confidence: float = 0.95,
        resamples: int = 1000,
    ) -> None:
        values = {
            "max_false_positive_rate": max_false_positive_rate,
            "min_recall": min_recall,
            "average_precision_margin": average_precision_margin,
            "max_latency_ms": max_latency_ms,
        }
        for name, value in values.items():
            _check_number(name, value, *_LIMITS[name])
        _check_number("confidence", confidence, 0.5, 0.9999)
        _check_count("min_positives", min_positives, least=2)
        _check_count("min_rows", min_rows, least=2)
        _check_count("resamples", resamples, least=100)
        if action is not None:
            check_name(action, what="Gate, action")
        if isinstance(segments, str) or (
            segments is not None and not all(isinstance(name, str) for name in segments)
        ):
            raise DefinitionError(
                f"Gate: segments is {segments!r}; allowed are a list of feature names and None. Write for example "
                'segments=["is_night"].'
            )
        values |= {"confidence": confidence}
        for attribute, number in values.items():
            object.__setattr__(self, attribute, float(number))
        for attribute, other in (
            ("action", action),
            ("segments", None if segments is None else tuple(segments)),
            ("strict_segments", bool(strict_segments)),
            ("min_positives", min_positives),
            ("min_rows", min_rows),
            ("resamples", resamples),
        ):
            object.__setattr__(self, attribute, other)


OF_ALARMS = ("action", "max_false_positive_rate", "min_recall", "average_precision_margin", "min_positives")
"""Settings that mean nothing for a regression, which raises no alarms."""


def check_gate(gate: object, *, task: str, owner: str) -> None:
    """Raise `DefinitionError` unless a model with this task can be judged by `gate`; None is the gate as it is."""
    if gate is None:
        return
    if not isinstance(gate, Gate):
        raise DefinitionError(
            f"{owner}: gate is {gate!r}; allowed are a Gate and None. Write for example Gate(max_false_positive_rate=0.01)."
        )
    usual = Gate()
    given = [name for name in OF_ALARMS if getattr(gate, name) != getattr(usual, name)]
    if task == "regression" and given:
        raise DefinitionError(
            f"{owner}: its gate sets {given[0]} and its task is {task!r}, which raises no alarms; allowed are segments, "
            "strict_segments, min_rows, confidence, resamples and max_latency_ms. Leave it out."
        )


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise DefinitionError(
            f"Gate: {name} is {value!r}; allowed is a number from {least:g} to {most:g}. Write for example "
            f"{name}={max(least, 0.02):g}."
        )


def _check_count(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DefinitionError(
            f"Gate: {name} is {value!r}; allowed is a whole number of at least {least}. Write for example {name}=100."
        )
