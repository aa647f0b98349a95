"""One request for several sources: each is asked for itself, and what could not be asked is told beside what was taken."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.core.errors import DeadlineError, PenstockError, UncertainError
from penstock.engine.answers import Answer
from penstock.serving.problems import problem_of

Told = list[Answer] | PenstockError


def taken_or_told(told: Mapping[str, Told], counts: Mapping[str, int]) -> dict[str, list[Answer]]:
    """An answer for each row of each source; rows of a source that could not be asked are `rejected` for that reason.

    Parameters
    ----------
    told
        By source its answers, or what kept it from being asked: no room, no time.
    counts
        How many rows each had.

    Raises
    ------
    PenstockError
        Where no source was asked; of several the one that says most, that rows may have been taken all the same.
    """
    errors = [one for one in told.values() if isinstance(one, PenstockError)]
    if errors and len(errors) == len(told):
        raise max(errors, key=_may_be_taken)
    return {
        source: [_refusal(one)] * counts[source] if isinstance(one, PenstockError) else one
        for source, one in told.items()
    }


def _may_be_taken(error: PenstockError) -> bool:
    return isinstance(error, UncertainError) or (isinstance(error, DeadlineError) and error.taken)


def _refusal(error: PenstockError) -> Answer:
    return Answer("rejected", reason=problem_of(error).code, detail=str(error))
