"""What an alert on decisions may do by itself: put the key of the event on a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.definitions.key_lists import KeyList
from penstock.definitions.sources import StreamSource


@dataclass(frozen=True, slots=True, init=False, eq=False)
class AddTo:
    """A receiver that is a list: the key of each event that an alert tells of is put on it, once.

    The change stands in the list's history with the alert's name as the actor. It counts from its place in the log on, a moment after the
    decision: what arrives in between does not see it.

    Parameters
    ----------
    keys
        The list. A rule of a policy, or a model, must use it.
    expires
        For how long, from the event's time on; None: until somebody takes it off.
    reason
        Kept with each change; default: the action and the event's id.
    join_key_map
        Where the stream has the key in another column: ``{join key: column}``.

    Examples
    --------
    >>> from penstock.definitions.entities import Entity
    >>> from penstock.types import Field, String
    >>> blocked_cards = KeyList("blocked_cards", Entity("card", [Field("card_id", String)]))
    >>> AddTo(blocked_cards, expires=timedelta(days=30)).name
    'list:blocked_cards'
    """

    keys: KeyList
    expires: timedelta | None
    reason: str
    columns: tuple[tuple[str, str], ...]
    """Each join key, and the column of the stream that holds it."""

    def __init__(
        self,
        keys: KeyList,
        *,
        expires: timedelta | None = None,
        reason: str = "",
        join_key_map: Mapping[str, str] | None = None,
    ) -> None:
        given: object = keys
        if not isinstance(given, KeyList):
            raise DefinitionError(
                f"AddTo: keys is {keys!r}; allowed is a KeyList. Write for example AddTo(blocked_cards)."
            )
        what = f"AddTo of {keys.name!r}"
        lasting: object = expires
        if lasting is not None and (not isinstance(lasting, timedelta) or lasting <= timedelta(0)):
            raise DefinitionError(
                f"{what}: expires is {expires!r}; allowed are None and a timedelta above 0. Write for example timedelta(days=30)."
            )
        unknown = [name for name in join_key_map or {} if name not in keys.entity.key_names]
        if unknown:
            raise DefinitionError(
                f"{what}: join_key_map names {unknown[0]!r}; allowed are the join keys {', '.join(keys.entity.key_names)}. Correct it."
            )
        columns = tuple((name, (join_key_map or {}).get(name, name)) for name in keys.entity.key_names)
        for attribute, value in (
            ("keys", keys),
            ("expires", expires),
            ("reason", reason),
            ("columns", columns),
        ):
            object.__setattr__(self, attribute, value)

    @property
    def name(self) -> str:
        """How deliveries name it."""
        return f"list:{self.keys.name}"

    def check_stream(self, stream: StreamSource, *, owner: str) -> None:
        """Raise `DefinitionError` where events of a stream do not hold such keys."""
        types = {field.name: field.dtype for field in stream.schema}
        for key in self.keys.entity.join_keys:
            column = dict(self.columns)[key.name]
            if types.get(column) != key.dtype:
                found = types.get(column)
                raise DefinitionError(
                    f"{owner}: the key {key.name!r} ({key.dtype.name}) of list {self.keys.name!r} is to be in column {column!r} of "
                    f"{stream.name!r}, which {'is not there' if found is None else f'is {found.name}'}; its columns are "
                    f"{', '.join(types)}. Name the right one: join_key_map={{{key.name!r}: ...}}."
                )
        if stream.card_numbers != self.keys.source.card_numbers:
            raise DefinitionError(
                f"{owner}: card_numbers of list {self.keys.name!r} is {self.keys.source.card_numbers!r} and that of {stream.name!r} is "
                f"{stream.card_numbers!r}; allowed is the same, or keys would be written differently. Change one."
            )
