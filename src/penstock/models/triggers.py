"""When a model is due to be trained again. Pure: what is known goes in, a trigger or none comes out.

A label counts once: what an attempt has used is no reason for another, whatever became of the attempt. An attempt that was killed
has used nothing, but its cooldown holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from penstock.core.cron import Cron
from penstock.core.time import to_us
from penstock.definitions.retraining import FLOORS

if TYPE_CHECKING:
    from penstock.definitions.retraining import Retraining

Kind = Literal["labels", "drift", "floor", "schedule", "hand"]
Figures = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class State:
    """What earlier attempts leave behind.

    Attributes
    ----------
    position
        The log's length up to which labels are used.
    started_us
        When the newest attempt started, also one that was killed; None: there was none.
    since_us
        From when on times of the schedule count: the newest scheduled attempt, or the first look.
    """

    position: int
    started_us: int | None
    since_us: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there now: the time, and labels that joined their events since `State.position`."""

    now_us: int
    labels: int
    positives: int


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why a model is trained again."""

    kind: Kind
    text: str


def due(
    rules: Retraining,
    state: State,
    seen: Seen,
    *,
    binary: bool = True,
    drifted: Callable[[], Sequence[str]],
    figures: Callable[[], Figures],
) -> Trigger | None:
    """The reason to train now, if there is one.

    Parameters
    ----------
    binary
        Whether positives are counted; of a regression all labels are.
    drifted, figures
        The columns that drifted, and the figures of the model in Production; asked only where they decide.

    Examples
    --------
    >>> from penstock.definitions.retraining import Retraining
    >>> nothing = {"drifted": list, "figures": dict}
    >>> state = State(position=0, started_us=None, since_us=0)
    >>> due(Retraining(), state, Seen(now_us=1, labels=499, positives=60), **nothing) is None
    True
    >>> due(Retraining(), state, Seen(now_us=1, labels=500, positives=60), **nothing).text
    '500 new labels, 60 of them positive'
    """
    if is_cooling(rules, state, seen.now_us):
        return None
    if rules.schedule is not None and next_scheduled_us(rules.schedule, state) <= seen.now_us:
        return Trigger("schedule", f"schedule {rules.schedule}")
    counted = seen.positives if binary else seen.labels
    if not seen.labels or counted < rules.min_positives:
        return None
    if rules.new_labels is not None and seen.labels >= rules.new_labels:
        positives = f", {seen.positives:,} of them positive" if binary else ""
        return Trigger("labels", f"{seen.labels:,} new labels{positives}")
    return _by_signs(rules, drifted, figures)


def _by_signs(
    rules: Retraining, drifted: Callable[[], Sequence[str]], figures: Callable[[], Figures]
) -> Trigger | None:
    missed = _missed(rules, figures()) if rules.metric_floor else ""
    if missed:
        return Trigger("floor", missed)
    moved = drifted() if rules.on_drift else ()
    more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
    return Trigger("drift", f"drift of {', '.join(moved[:3])}{more}") if moved else None


def is_cooling(rules: Retraining, state: State, now_us: int) -> bool:
    """Whether the newest attempt started so lately that no other may; a clock that was set back does not hold it up for ever."""
    return state.started_us is not None and 0 <= now_us - state.started_us < to_us(rules.cooldown)


def next_scheduled_us(schedule: str, state: State) -> int:
    """The first time of a schedule that is not served yet."""
    return Cron.parse(schedule, owner="Retraining, schedule").next_us(state.since_us)


def _missed(rules: Retraining, figures: Figures) -> str:
    """Which figure is beyond its limit; empty where none is, or cannot be said."""
    for name, limit in rules.metric_floor:
        value = figures.get(name)
        if value is None:
            continue
        if FLOORS[name] and value < limit:
            return f"{name} {value:.4f} is below {limit:g}"
        if not FLOORS[name] and value > limit:
            return f"{name} {value:.4f} is above {limit:g}"
    return ""
