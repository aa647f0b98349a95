"""Batch feature views: profiles, which are the latest row of each key, and aggregates over batch rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from penstock.core.cron import Cron
from penstock.core.errors import DefinitionError
from penstock.core.time import LONGEST
from penstock.core.types import Field
from penstock.definitions.aggregate_functions import LATEST
from penstock.definitions.aggregates import Aggregate
from penstock.definitions.batch_sources import BatchSource
from penstock.definitions.entities import Entity
from penstock.definitions.view_checks import description_of, name_of
from penstock.definitions.views import DEFAULT_MAX_KEYS, Attribute, Function, StreamFeatureView
from penstock.definitions.windows import TimeWindow

DAILY = timedelta(days=1)


class Latest(Aggregate):
    """An attribute of a profile as a windowed feature: its value in the latest row of the key, null where it is null there.

    Unlike ``"last"`` it does not fall back to an older row, and it is no function that users name.
    """

    __slots__ = ()

    def __init__(self, column: Field, *, time_window: TimeWindow, name: str | None = None) -> None:
        super().__init__(column, "last", time_window=time_window, name=name or column.name)
        object.__setattr__(self, "function", LATEST)


@dataclass(frozen=True, slots=True, init=False)
class BatchFeatureView(StreamFeatureView):
    """Features of the rows of a batch source.

    With `Attribute` features it is a slowly changing profile: at time t its values are those of the key's latest row with
    ``t - ttl < time <= t``, all of the same row; where the row has a null, the value is null. Of rows of the same time the
    later in the log counts. With `Aggregate` features the windows hold batch rows as those of a `StreamFeatureView` hold
    events. A row's time is its timestamp plus the source's `data_delay`.

    Use the decorator `batch_feature_view` where there is a function; this class where there is none.

    Parameters
    ----------
    name, entities, mode, timestamp_field, function, max_keys, aggregation_secondary_key
        As for `StreamFeatureView`.
    sources
        One `BatchSource`.
    features
        `Attribute` objects, or `Aggregate` objects, not both.
    ttl
        How long a profile's row counts; None: until the next one. For attributes only.
    batch_schedule
        When a running project reads the source again: an interval since the last reading, or a cron text in UTC like
        ``"0 3 * * *"``. It is also read when the run starts.
    feature_start_time
        Rows with an earlier timestamp do not enter.

    Examples
    --------
    >>> from penstock import Entity, FileConfig
    >>> from penstock.types import Field, Int64, String, Timestamp
    >>> user = Entity("user", [Field("user_id", String)])
    >>> columns = [
    ...     Field("user_id", String),
    ...     Field("updated_at", Timestamp),
    ...     Field("age", Int64, optional=True),
    ... ]
    >>> users = BatchSource("users", FileConfig("users.csv", "csv"), schema=columns)
    >>> profile = BatchFeatureView(
    ...     "profile", sources=[users], entities=[user], features=[Attribute("age", Int64)]
    ... )
    >>> profile.feature_types
    {'age': Int64}
    """

    called: ClassVar[str] = "batch feature view"
    source_kinds: ClassVar[tuple[type, ...]] = (BatchSource,)

    ttl: timedelta | None
    batch_schedule: timedelta | str
    feature_start_time: datetime | None

    def __init__(
        self,
        name: str,
        *,
        sources: Sequence[BatchSource],
        entities: Sequence[Entity],
        features: Sequence[Attribute] | Sequence[Aggregate],
        mode: str = "numpy",
        timestamp_field: str | None = None,
        function: Function | None = None,
        ttl: timedelta | None = None,
        batch_schedule: timedelta | str = DAILY,
        feature_start_time: datetime | None = None,
        max_keys: int = DEFAULT_MAX_KEYS,
        aggregation_secondary_key: str | Field | None = None,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"batch feature view {name!r}"
        windowed: Any = _windowed(features, ttl, owner=what)
        _check_schedule(batch_schedule, owner=what)
        _check_start(feature_start_time, owner=what)
        StreamFeatureView.__init__(
            self,
            name,
            source=_only(sources, owner=what),
            entities=entities,
            features=windowed,
            mode=mode,
            timestamp_field=timestamp_field,
            function=function,
            max_keys=max_keys,
            aggregation_secondary_key=aggregation_secondary_key,
            description=description,
            owner=owner,
            tags=tags,
        )
        object.__setattr__(self, "ttl", ttl)
        object.__setattr__(self, "batch_schedule", batch_schedule)
        object.__setattr__(self, "feature_start_time", feature_start_time)

    def get_features_in_range(
        self, start_time: datetime, end_time: datetime, *, entities: Any = None, history: Any = None
    ) -> Any:
        """The history of the values: a row a key and stretch of time in which its values stay the same.

        Parameters
        ----------
        start_time, end_time
            The range ``[start_time, end_time)``; naive times are UTC.
        entities
            A frame with the join keys that are wanted; default: all.
        history
            ``{"source": frame}``; default: the log of the open project.

        Returns
        -------
        penstock.engine.training_set.FeatureFrame
            The join keys, ``_valid_from`` (inclusive), ``_valid_to`` (exclusive) and the features under their own names,
            by key in order of appearance, then by time. Stretches in which there is no row are left out.
        """
        from penstock.definitions.actions import profiles_in_range

        return profiles_in_range(self, start_time, end_time, entities=entities, history=history)


def batch_feature_view(
    *,
    sources: Sequence[BatchSource],
    entities: Sequence[Entity],
    features: Sequence[Attribute] | Sequence[Aggregate],
    mode: str = "numpy",
    timestamp_field: str | None = None,
    ttl: timedelta | None = None,
    batch_schedule: timedelta | str = DAILY,
    feature_start_time: datetime | None = None,
    name: str | None = None,
    max_keys: int = DEFAULT_MAX_KEYS,
    aggregation_secondary_key: str | Field | None = None,
    description: str = "",
    owner: str = "",
    tags: Mapping[str, str] | None = None,
) -> Callable[[Function], BatchFeatureView]:
    """Make a function into a `BatchFeatureView`, named after the function unless `name` is given."""

    def decorate(function: Function) -> BatchFeatureView:
        return BatchFeatureView(
            name or name_of(function, owner="batch feature view"),
            sources=sources,
            entities=entities,
            features=features,
            mode=mode,
            timestamp_field=timestamp_field,
            function=function,
            ttl=ttl,
            batch_schedule=batch_schedule,
            feature_start_time=feature_start_time,
            max_keys=max_keys,
            aggregation_secondary_key=aggregation_secondary_key,
            description=description or description_of(function),
            owner=owner,
            tags=tags,
        )

    return decorate


def schedules(views: Mapping[str, Any], source: str) -> list[timedelta | str]:
    """When `source` is to be read again, for each batch view over it."""
    return [
        view.batch_schedule
        for view in views.values()
        if isinstance(view, BatchFeatureView) and view.source.name == source
    ]


def _windowed(features: object, ttl: object, *, owner: str) -> Sequence[object]:
    if not isinstance(features, list | tuple):
        raise DefinitionError(
            f'{owner}: features is {features!r}; allowed is a list. Write for example [Attribute("age", Int64)].'
        )
    attributes = [feature for feature in features if isinstance(feature, Attribute)]
    if attributes and len(attributes) < len(features):
        raise DefinitionError(
            f"{owner}: features holds attributes and others; allowed are Attribute objects alone, or Aggregate objects alone. "
            "Make two views."
        )
    if ttl is not None and (not isinstance(ttl, timedelta) or not timedelta(0) < ttl <= LONGEST):
        raise DefinitionError(
            f"{owner}: ttl is {ttl!r}; allowed are None and a timedelta longer than zero, up to {LONGEST.days} days. Write for "
            "example timedelta(days=30)."
        )
    if features and not attributes:
        if ttl is not None:
            raise DefinitionError(
                f"{owner}: ttl is {ttl!r}, but its features are aggregates, whose windows say how long a row counts; allowed is "
                "a ttl for attributes. Leave it out."
            )
        return features
    window = TimeWindow(LONGEST if ttl is None else ttl)
    return [Latest(Field(a.name, a.dtype), time_window=window) for a in attributes]


def _only(sources: object, *, owner: str) -> Any:
    if not isinstance(sources, list | tuple) or len(sources) != 1:
        raise DefinitionError(
            f"{owner}: sources is {sources!r}; allowed is a list of one BatchSource. Join several tables in one with "
            "DuckDBConfig."
        )
    return sources[0]


def _check_schedule(schedule: object, *, owner: str) -> None:
    if isinstance(schedule, str):
        Cron.parse(schedule, owner=owner)
    elif not isinstance(schedule, timedelta) or schedule <= timedelta(0):
        raise DefinitionError(
            f"{owner}: batch_schedule is {schedule!r}; allowed are a timedelta longer than zero and a cron text. Write for "
            'example timedelta(hours=1) or "0 3 * * *".'
        )


def _check_start(start: object, *, owner: str) -> None:
    if start is not None and not isinstance(start, datetime):
        raise DefinitionError(
            f"{owner}: feature_start_time is {start!r}; allowed are None and a datetime. Write for example "
            "datetime(2026, 1, 1)."
        )
