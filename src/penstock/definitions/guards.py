"""The guard of an endpoint: what takes a version out of service again without a hand."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.core.errors import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Watches each version that begins to decide; on alarm the champion is rolled back, another arm's weight set to 0.

    Failures, latency and scores are watched over its first events, its ranking when labels had their time. Each version is watched
    once, and one that came back by a rollback is not, so that nothing swings to and fro.

    Parameters
    ----------
    events
        Over so many of its events failures, latency and scores are watched. The first look is at 500.
    max_failed
        The share of events that may be left without a score; an alarm says that it is exceeded beyond doubt.
    max_latency_ms
        How long the model may take for up to 64 rows, in milliseconds, and in proportion for more; the alarm is nine in ten of the
        newest calls, of at least 20.
    max_score_shift
        By how much its scores may differ from those of its test period: the largest difference of the two distribution
        functions, 0 to 1. Few events must differ by more.
    min_positives
        From so many positives on, whose labels had their time, its ranking is held against the version before; again at
        twice and four times as many. 0: not at all.
    false_alarms
        How often at most a good version is taken out by failures, by scores, and by labels each, if events were independent.

    Examples
    --------
    >>> Guard(max_score_shift=0.4).events
    10000
    """

    events: int = 10_000
    max_failed: float = 0.01
    max_latency_ms: float = 5.0
    max_score_shift: float = 0.25
    min_positives: int = 50
    false_alarms: float = 0.001

    def __post_init__(self) -> None:
        for name, least in (("events", 500), ("min_positives", 0)):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise DefinitionError(
                    f"Guard: {name} is {value!r}; allowed is a whole number of at least {least}. Write for example {name}=1000."
                )
        for name, most in (
            ("max_failed", 1.0),
            ("max_latency_ms", float("inf")),
            ("max_score_shift", 1.0),
            ("false_alarms", 0.5),
        ):
            share: object = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= most:
                raise DefinitionError(
                    f"Guard: {name} is {share!r}; allowed is a number above 0 and at most {most:g}. Leave it out for the default."
                )


DEFAULT_GUARD = Guard()


def check_guard(guard: object, *, owner: str) -> None:
    """Raise `DefinitionError` unless `guard` is one, or None."""
    if guard is not None and not isinstance(guard, Guard):
        raise DefinitionError(
            f"{owner}: guard is {guard!r}; allowed are a Guard and None. Write for example guard=Guard(events=50_000)."
        )
