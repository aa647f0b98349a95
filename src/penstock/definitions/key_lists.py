"""Lists of keys: cards to block, merchants to allow. Their members change while the project runs, and each change is a row of the log.

A list is a table like any other (`BatchSource`), with a view over it, and for each stream one feature that says whether the event's key is
listed. So what a list held when an event was decided is a function of the log, and replay, audit and backtest know it as the
engine did. One rule is its own: a change counts from its place in the log on, whatever the event's time says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from penstock.core.errors import DefinitionError
from penstock.core.types import Bool, Field, Float64, String, Timestamp, check_name
from penstock.definitions.batch_configs import BatchConfig, ByHand
from penstock.definitions.batch_sources import BatchSource
from penstock.definitions.batch_views import DAILY, BatchFeatureView
from penstock.definitions.entities import Entity
from penstock.definitions.sources import CardNumbers, RequestSource, StreamSource
from penstock.definitions.tags import Tags, tags_of
from penstock.definitions.view_checks import at_least_one
from penstock.definitions.views import Attribute, RealtimeFeatureView

LISTED, CHANGED_AT, EXPIRES_AT, ACTOR, REASON = "listed", "changed_at", "expires_at", "actor", "reason"
CHANGE_ID = "change_id"
CHANGE_FIELDS = (
    Field(CHANGED_AT, Timestamp),
    Field(LISTED, Bool, optional=True),
    Field(EXPIRES_AT, Timestamp, optional=True),
    Field(ACTOR, String, optional=True),
    Field(REASON, String, optional=True),
    Field(CHANGE_ID, String, optional=True),
)
"""What a change says besides its key: when, whether the key is listed from then on (null: it is), until when, by whom and why.

The id tells changes apart that say the same at the same moment; rows of a table need none.
"""

_COUNTS_FROM, _UNTIL = "counts_from", "until"
_START = "1900-01-01"
"""The time of all changes, so that of each key the latest in the log counts."""
_FOREVER_US = 2.0**62


class ListSource(BatchSource):
    """The changes of a `KeyList`, as rows of the log; their number is the list's version."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, init=False, eq=False)
class KeyList:
    """Keys to treat otherwise, by name: cards, merchants, e-mail addresses. Rules name it: ``Rule("blocked", when=blocked_cards, ...)``.

    A change counts for every event that the log accepts after it, whatever that event's time: what was blocked at noon is blocked for a
    payment of a minute before that arrives now. Nothing else changes what was decided. An entry that expires ends by the event's time.
    Changes are numbered from 1 on in the order of the log: decisions name that number as the list's version.

    Parameters
    ----------
    name
        The list's name, also that of its source in the log. The feature of an event is called ``NAME.listed``.
    entity
        Whose keys they are; the stream has its join keys.
    batch_config
        A table of changes, read besides: the join keys, ``changed_at``, and if it has them ``listed``, ``expires_at``, ``actor``,
        ``reason``. Default: changes come by ``penstock lists`` and HTTP only.
    batch_schedule
        How often the table is looked at.
    card_numbers
        What happens to a key that is the number of a payment card, as for `StreamSource`; the streams must say the same.

    Examples
    --------
    >>> from penstock.types import Field, String
    >>> card = Entity("card", [Field("card_id", String)])
    >>> blocked = KeyList("blocked_cards", card)
    >>> blocked.feature, [field.name for field in blocked.source.schema][:3]
    ('blocked_cards.listed', ['card_id', 'changed_at', 'listed'])
    """

    name: str
    entity: Entity
    source: BatchSource
    entries: BatchFeatureView
    description: str
    owner: str
    tags: Tags
    _memberships: dict[Any, RealtimeFeatureView] = field(repr=False)

    def __init__(
        self,
        name: str,
        entity: Entity,
        *,
        batch_config: BatchConfig | None = None,
        batch_schedule: timedelta | str = timedelta(minutes=1),
        card_numbers: CardNumbers = "refuse",
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"KeyList {check_name(name, what='KeyList')!r}"
        at_least_one([entity], Entity, owner=what, argument="entity", example="KeyList(name, card)")
        taken = {one.name for one in CHANGE_FIELDS} & set(entity.key_names)
        if taken:
            raise DefinitionError(
                f"{what}: its entity {entity.name!r} has the join key {min(taken)!r}, as changes of lists are described; allowed are "
                "other names. Rename the key."
            )
        source = ListSource(
            name,
            ByHand() if batch_config is None else batch_config,
            schema=[*entity.join_keys, *CHANGE_FIELDS],
            timestamp_field=CHANGED_AT,
            card_numbers=card_numbers,
            description=description,
            owner=owner,
        )
        entries = BatchFeatureView(
            f"{name}_entries",
            sources=[source],
            entities=[entity],
            features=[Attribute(_UNTIL, Float64)],
            function=_entry,
            timestamp_field=_COUNTS_FROM,
            batch_schedule=DAILY if batch_config is None else batch_schedule,
            description=f"Until when a key of {name} is listed, in microseconds since 1970.",
            owner=owner,
        )
        for attribute, value in (
            ("name", name),
            ("entity", entity),
            ("source", source),
            ("entries", entries),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
            ("_memberships", {}),
        ):
            object.__setattr__(self, attribute, value)

    @property
    def feature(self) -> str:
        """What the feature of an event is called that says whether its key is listed."""
        return f"{self.name}.{LISTED}"

    def on(
        self, stream: StreamSource, *, name: str | None = None, join_key_map: Mapping[str, str] | None = None
    ) -> RealtimeFeatureView:
        """Whether events of `stream` are of a listed key: a view with the one feature ``listed``.

        Rules that name the list have it without this. It is for models, and for keys that the stream holds in other columns:
        ``accounts.on(transfers, name="receiver", join_key_map={"account_id": "receiver_id"})``.

        Raises
        ------
        DefinitionError
            The stream and the list treat card numbers differently: no key would ever be found.
        """
        if stream.card_numbers != self.source.card_numbers:
            raise DefinitionError(
                f"KeyList {self.name!r}: its card_numbers is {self.source.card_numbers!r} and that of {stream.name!r} is "
                f"{stream.card_numbers!r}; allowed is the same, or keys would be written differently. Change one."
            )
        keys = tuple((join_key_map or {}).items())
        known = (stream.name, stream.time_field, name, keys)
        if known not in self._memberships:
            self._memberships[known] = RealtimeFeatureView(
                name or self.name,
                sources=[
                    RequestSource(schema=[Field(stream.time_field, Timestamp)]),
                    self.entries.with_join_key_map(dict(keys)),
                ],
                features=[Attribute(LISTED, Bool, f"on the list {self.name}")],
                function=_is_listed,
                description=f"Whether the key is on the list {self.name}.",
                owner=self.owner,
            )
        return self._memberships[known]


def lists_among(references: Sequence[Any]) -> tuple[str, ...]:
    """The lists that features are looked up in, by name, in order of appearance."""
    views = [each.view for reference in references for each in (reference, *_looked_up(reference.view))]
    sources = [getattr(view, "source", None) for view in views]
    return tuple(dict.fromkeys(one.name for one in sources if isinstance(one, ListSource)))


def is_membership(function: object) -> bool:
    """Whether it is the function of the feature that says whether an event's key is listed."""
    return function is _is_listed


def _looked_up(view: Any) -> list[Any]:
    return [one for one in getattr(view, "sources", ()) if not isinstance(one, RequestSource)]


def _entry(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A change as the view holds it: in its place in the log (the same time for all), and until when the key is listed."""
    import numpy as np

    expires, listed = changes[EXPIRES_AT], changes[LISTED]
    until = np.where(np.isnat(expires), _FOREVER_US, expires.astype(np.int64))
    until = np.where(listed == 0, -_FOREVER_US, until)  # a null is NaN, which is not 0
    start = np.full(len(until), np.datetime64(_START, "us"))
    return {**changes, _COUNTS_FROM: start, _UNTIL: until}


def _is_listed(request: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    (time,) = request.values()
    return {LISTED: time.astype(int) < entry[_UNTIL]}  # where there is no entry the comparison is false
