"""How many alerts a day a policy may raise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.core.errors import DefinitionError
from penstock.core.types import check_name

MOST_A_DAY = 1_000_000_000 - 1


@dataclass(frozen=True, slots=True, init=False)
class AlertCap:
    """At most so many alerts a day, in the order of arrival; what is over it gets another action, and the flag ``over_budget``.

    A day is one of the events' own times, in UTC. The count is part of the log: it is exact after a crash, and a replay or a backtest caps the
    same events. Each endpoint counts its own; with several workers each shard does.

    Parameters
    ----------
    per_day
        How many.
    actions
        Which actions count and are capped, by score or by rule; default: all but the policy's default. Leave those out that nobody
        has to look at: a blocked card stays blocked however many there are.
    instead
        What is done to the events over it; default: the policy's default.

    Examples
    --------
    >>> AlertCap(200, actions=["review"]).per_day
    200
    """

    per_day: int
    actions: tuple[str, ...]
    instead: str | None

    def __init__(self, per_day: int, *, actions: Sequence[str] = (), instead: str | None = None) -> None:
        count: object = per_day
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_A_DAY:
            raise DefinitionError(
                f"AlertCap: per_day is {per_day!r}; allowed is a whole number from 1 to {MOST_A_DAY:,}. Write for example AlertCap(200)."
            )
        if not isinstance(actions, list | tuple):
            raise DefinitionError(
                f'AlertCap: actions is {actions!r}; allowed is a list of actions. Write for example actions=["review"].'
            )
        for action in (*actions, *([] if instead is None else [instead])):
            check_name(action, what="AlertCap, action")
        object.__setattr__(self, "per_day", per_day)
        object.__setattr__(self, "actions", tuple(dict.fromkeys(actions)))
        object.__setattr__(self, "instead", instead)

    def of_policy(self, names: Sequence[str], *, owner: str) -> AlertCap:
        """The cap with everything said, for a policy with the actions `names`, the default first.

        Raises
        ------
        DefinitionError
            It names an action that the policy does not have, or one both as capped and as what is done instead.
        """
        actions = self.actions or tuple(names[1:])
        instead = self.instead or names[0]
        unknown = [name for name in (*actions, instead) if name not in names]
        if unknown:
            raise DefinitionError(
                f"{owner}: its cap names the action {unknown[0]!r}; the policy decides {', '.join(names)}. Name one of these."
            )
        if instead in actions:
            raise DefinitionError(
                f"{owner}: its cap is on {', '.join(actions)}, and {instead!r} is what is done instead; allowed is another action, or "
                'nothing would be capped. Write for example actions=["review"], instead="approve".'
            )
        return AlertCap(self.per_day, actions=actions, instead=instead)
