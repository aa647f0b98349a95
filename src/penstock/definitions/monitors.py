"""Monitors: what is watched of an endpoint, over which periods, and when drift is an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from math import gcd

from penstock.core.errors import DefinitionError
from penstock.core.time import DAY_US, to_us
from penstock.core.types import check_name
from penstock.definitions.endpoints import Endpoint
from penstock.definitions.segment_names import check_segments
from penstock.definitions.sources import check_not_negative

WINDOWS = (timedelta(days=7), timedelta(days=28))
NAB_PROFILES = ("standard", "reward_low_FP_rate", "reward_low_FN_rate")
FALSE_DISCOVERY = ("benjamini-hochberg", "benjamini-yekutieli")
MOST_SLOTS = 1_000
SCORE, ERROR = "score", "error"
LIVE = (SCORE, ERROR)
"""What detectors listen to where nothing is said."""


@dataclass(frozen=True, slots=True, init=False)
class Monitor:
    """What is watched of an endpoint. An endpoint without one is watched by ``Monitor(endpoint=endpoint)``.

    Parameters
    ----------
    name
        The monitor's name; default: the endpoint's.
    endpoint
        What is watched.
    segments
        Columns of the event, or features (``view.feature``), by whose values quality is split: texts, truth values and whole
        numbers by value, numbers with a fraction by range (1 to 2, 2 to 5, 5 to 10, ...).
    max_segments
        Most values of a segment that are told apart: those with the most decisions in each window. The others count together as ``(other)``.
    windows
        Lengths of the rolling windows of event time, ascending, each a multiple of the first.
    delay
        How long labels take. A window ends that long before the newest event, so that its labels are there; default:
        ``delay`` of the model's split.
    top_k
        How many cards (entities) can be looked at in a day, for Card Precision.
    quantile
        For the pinball loss of a regression.
    drift_window
        The newest stretch of event time that is compared with what the model was trained on.
    live
        What detectors of change (ADWIN, Page-Hinkley) listen to while the project runs: ``"score"``, ``"error"`` (the loss of each
        decision when its label comes), and features. None: score and error, where an alert or retraining waits for drift; ``[]``: nothing.
    false_alarms
        The share of drift reports without drift that may alarm; of drift that is watched while the project runs the share of drift
        windows, however often somebody looks.
    false_discovery
        How false discoveries among features are bounded: ``"benjamini-hochberg"``, or ``"benjamini-yekutieli"``,
        which needs no assumption on how features depend on each other and finds less.
    nab_profile
        What errors cost in the NAB score of a detector of anomalies, by the benchmark's own names: ``"standard"``,
        ``"reward_low_FP_rate"`` (a false alarm twice as much), ``"reward_low_FN_rate"`` (a missed anomaly twice as much).
    min_effect
        Differences smaller than this are no alarm however certain they are: the largest difference of the two
        distribution functions, or of the shares of a value or of missing ones.

    Examples
    --------
    ::

        watch = Monitor(
            endpoint=checkout, segments=["country", "payment.is_night"], windows=[timedelta(days=7)]
        )
    """

    name: str
    endpoint: Endpoint
    segments: tuple[str, ...]
    max_segments: int
    windows: tuple[timedelta, ...]
    delay: timedelta
    top_k: int
    quantile: float
    drift_window: timedelta
    live: tuple[str, ...] | None
    false_alarms: float
    false_discovery: str
    min_effect: float
    nab_profile: str

    def __init__(
        self,
        name: str | None = None,
        *,
        endpoint: Endpoint,
        segments: Sequence[str] = (),
        max_segments: int = 20,
        windows: Sequence[timedelta] = WINDOWS,
        delay: timedelta | None = None,
        top_k: int = 100,
        quantile: float = 0.5,
        drift_window: timedelta = timedelta(days=7),
        live: Sequence[str] | None = None,
        false_alarms: float = 0.05,
        false_discovery: str = "benjamini-hochberg",
        min_effect: float = 0.02,
        nab_profile: str = "standard",
    ) -> None:
        if not isinstance(endpoint, Endpoint):
            raise DefinitionError(
                f"Monitor {name!r}: endpoint is {endpoint!r}; allowed is an Endpoint. Give the one to watch."
            )
        chosen = endpoint.name if name is None else name
        what = f"Monitor {check_name(chosen, what='Monitor')!r}"
        late = endpoint.model.split.delay if delay is None else delay
        check_not_negative(late, owner=what, argument="delay")
        _check_windows(windows, owner=what)
        check_segments(segments, source=endpoint.source, features=endpoint.model.features, owner=what)
        _check_length(drift_window, owner=what, argument="drift_window")
        _check_live(live, endpoint, owner=what)
        _check_counts(owner=what, max_segments=max_segments, top_k=top_k)
        _check_shares(owner=what, quantile=quantile, false_alarms=false_alarms, min_effect=min_effect)
        _check_choice(false_discovery, FALSE_DISCOVERY, owner=what, argument="false_discovery")
        _check_choice(nab_profile, NAB_PROFILES, owner=what, argument="nab_profile")
        values = (
            ("name", chosen),
            ("endpoint", endpoint),
            ("segments", tuple(segments)),
            ("max_segments", max_segments),
            ("windows", tuple(windows)),
            ("delay", late),
            ("top_k", top_k),
            ("quantile", float(quantile)),
            ("drift_window", drift_window),
            ("live", None if live is None else tuple(live)),
            ("false_alarms", float(false_alarms)),
            ("false_discovery", false_discovery),
            ("min_effect", float(min_effect)),
            ("nab_profile", nab_profile),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)

    @property
    def slot_us(self) -> int:
        """The grid of event time on which windows begin and end: at most a day, and a part of every window."""
        return gcd(DAY_US, *(to_us(window) for window in self.windows))


def _check_windows(windows: object, *, owner: str) -> None:
    if not isinstance(windows, list | tuple) or not windows:
        raise DefinitionError(
            f"{owner}: windows is {windows!r}; allowed is a list of at least one timedelta. Write for example "
            "windows=[timedelta(days=7)]."
        )
    for window in windows:
        _check_length(window, owner=owner, argument="windows")
    lengths = [to_us(window) for window in windows]
    if any(b <= a or b % lengths[0] for a, b in pairwise(lengths)) or any(b % lengths[0] for b in lengths):
        raise DefinitionError(
            f"{owner}: windows are {', '.join(map(str, windows))}; allowed are ascending multiples of the first. "
            "Write for example windows=[timedelta(days=7), timedelta(days=28)]."
        )
    slot = gcd(DAY_US, *lengths)
    if lengths[-1] // slot > MOST_SLOTS:
        raise DefinitionError(
            f"{owner}: the longest window is {windows[-1]}, {lengths[-1] // slot:,} times the grid of "
            f"{timedelta(microseconds=slot)} that all windows need; allowed is {MOST_SLOTS:,} times. Make the first "
            "window longer, or the last one shorter."
        )


def _check_length(value: object, *, owner: str, argument: str) -> None:
    if not isinstance(value, timedelta) or value < timedelta(seconds=1):
        raise DefinitionError(
            f"{owner}: {argument} holds {value!r}; allowed is a timedelta of at least a second. Write for example "
            "timedelta(days=7)."
        )


def _check_choice(value: object, allowed: Sequence[str], *, owner: str, argument: str) -> None:
    if value not in allowed:
        raise DefinitionError(
            f"{owner}: {argument} is {value!r}; allowed are {', '.join(map(repr, allowed))}. Choose one."
        )


def _check_live(live: object, endpoint: Endpoint, *, owner: str) -> None:
    if live is None:
        return
    known = [
        SCORE,
        *([] if endpoint.model.task == "anomaly" else [ERROR]),
        *endpoint.model.features.feature_types,
    ]
    if (
        not isinstance(live, list | tuple)
        or any(name not in known for name in live)
        or len(set(live)) < len(live)
    ):
        raise DefinitionError(
            f"{owner}: live is {live!r}; allowed is a list of {', '.join(known)}, once each, or None. Correct it."
        )


def _check_counts(*, owner: str, **counts: object) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
            raise DefinitionError(
                f"{owner}: {name} is {value!r}; allowed is an int from 1 to 100,000. Write for example {name}=20."
            )


def _check_shares(*, owner: str, **shares: object) -> None:
    for name, value in shares.items():
        least = 0 if name == "min_effect" else 1e-9
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1:
            raise DefinitionError(
                f"{owner}: {name} is {value!r}; allowed is a number between 0 and 1. Write for example {name}=0.05."
            )
