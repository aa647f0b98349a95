"""Feature views: a function over a source plus the features that it feeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from penstock.core.errors import DefinitionError
from penstock.core.types import Bool, DataType, Field, Timestamp, check_name
from penstock.definitions.aggregates import Aggregate
from penstock.definitions.entities import Entity
from penstock.definitions.secondary_keys import by_secondary_key, secondary_key_of
from penstock.definitions.sources import (
    EventSource,
    LabelSource,
    RequestSource,
    StreamSource,
    find_time_field,
)
from penstock.definitions.tags import Tags, tags_of
from penstock.definitions.view_checks import (
    at_least_one,
    check_distinct,
    check_function,
    check_mode,
    check_no_arrays,
    check_source,
    checked_max_keys,
    description_of,
    name_of,
)

DEFAULT_MAX_KEYS = 5_000_000
Function = Callable[..., Any]
_AGGREGATE = 'features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(hours=1))]'


@dataclass(frozen=True, slots=True)
class Attribute:
    """A feature that a realtime feature view's function computes, or a column of a profile.

    >>> from penstock.types import Float64
    >>> Attribute("amount_ratio", Float64).name
    'amount_ratio'
    """

    name: str
    dtype: DataType

    def __post_init__(self) -> None:
        Field(self.name, self.dtype)


class _Features:
    """What stream and realtime views share: selecting features, renaming, computing."""

    __slots__ = ()
    name: str

    @property
    def feature_types(self) -> dict[str, DataType]:
        """The features' names and types, in order."""
        raise AssertionError("each view defines its features")

    def __getitem__(self, names: Sequence[str]) -> FeatureReference:
        return self.reference()[names]

    def with_name(self, name: str) -> FeatureReference:
        """The view's features under another view name."""
        return self.reference().with_name(name)

    def with_join_key_map(self, join_key_map: Mapping[str, str]) -> FeatureReference:
        """The view's features for keys that the events hold in other columns: ``{join_key: column}``."""
        return self.reference().with_join_key_map(join_key_map)

    def reference(self) -> FeatureReference:
        """All of the view's features."""
        return FeatureReference(self, self.name, tuple(self.feature_types))  # type: ignore[arg-type]

    def get_features_for_events(self, events: Any = None, **options: Any) -> Any:
        """Point-in-time features for a frame of events; see `FeatureService.get_features_for_events`."""
        from penstock.definitions.actions import features_for_events

        return features_for_events([self.reference()], events, **options)

    def get_features_in_range(self, start_time: datetime, end_time: datetime, *, entities: Any = None) -> Any:
        """The view's features over a range of time; see `FeatureService.get_features_in_range`."""
        from penstock.definitions.actions import features_in_range

        return features_in_range([self.reference()], start_time, end_time, entities=entities)

    def run_transformation(
        self, input_data: Any = None, *, mock_inputs: Mapping[str, Any] | None = None
    ) -> Any:
        """What the view's function makes of `input_data`, as the engine would call it.

        `mock_inputs` gives the inputs by name instead: ``{"source": frame}``, for a realtime view a frame each for the
        request (``"request"``) and the views that it reads.
        """
        from penstock.definitions.actions import run_transformation

        return run_transformation(self, input_data, mock_inputs=mock_inputs)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, init=False)
class StreamFeatureView(_Features):
    """Windowed features of one source for one or more entities.

    Use the decorator `stream_feature_view` where there is a function; this class where there is none.

    Parameters
    ----------
    name
        The view's name.
    source
        A `StreamSource` or `LabelSource`.
    entities
        Whose features they are; the key is the join keys of all of them.
    features
        `Aggregate` objects.
    mode
        How the function is called: ``"numpy"`` (a mapping of arrays), ``"python"`` (a dict a row), ``"pandas"``
        or ``"polars"`` (a frame).
    timestamp_field
        The column with the rows' time; default: the source's.
    function
        Source columns in, view columns out. It may drop rows, but not add or reorder them.
    max_keys
        Most keys held; beyond that the one seen longest ago leaves and later starts afresh. Departures are counted.
    aggregation_interval
        Windows of aggregates that name none of their own move in steps of this length; default: they slide.
    aggregation_secondary_key
        Aggregates are by entity and by this column too; a read by entity gives lists, one value for each secondary key with rows in
        the window, and the keys themselves as ``<column>_keys_<window>``. The name of a column of the source, or a Field that
        the function makes.
    """

    called: ClassVar[str] = "stream feature view"
    source_kinds: ClassVar[tuple[type, ...]] = (StreamSource, LabelSource)

    name: str
    source: EventSource
    entities: tuple[Entity, ...]
    features: tuple[Aggregate, ...]
    mode: str
    timestamp_field: str
    function: Function | None
    max_keys: int
    aggregation_interval: timedelta | None
    aggregation_secondary_key: Field | None
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        *,
        source: EventSource,
        entities: Sequence[Entity],
        features: Sequence[Aggregate],
        mode: str = "numpy",
        timestamp_field: str | None = None,
        function: Function | None = None,
        max_keys: int = DEFAULT_MAX_KEYS,
        aggregation_interval: timedelta | None = None,
        aggregation_secondary_key: str | Field | None = None,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"{self.called} {check_name(name, what=self.called)!r}"
        check_source(source, owner=what, kinds=self.source_kinds)
        check_mode(mode, owner=what)
        check_function(function, 1, owner=what)
        members = at_least_one(entities, Entity, owner=what, argument="entities", example="entities=[user]")
        given = at_least_one(features, Aggregate, owner=what, argument="features", example=_AGGREGATE)
        aggregates = tuple(aggregate.in_view(aggregation_interval) for aggregate in given)
        secondary = secondary_key_of(aggregation_secondary_key, source_schema(source), owner=what)
        if secondary is not None:
            aggregates = by_secondary_key(aggregates, secondary, aggregation_interval, owner=what)
        check_distinct([aggregate.name for aggregate in aggregates], owner=what, called="features")
        check_distinct([key.name for m in members for key in m.join_keys], owner=what, called="join keys")
        values = (
            ("name", name),
            ("source", source),
            ("entities", members),
            ("features", aggregates),
            ("mode", mode),
            ("timestamp_field", _time_field(timestamp_field, source, function, owner=what)),
            ("function", function),
            ("max_keys", checked_max_keys(max_keys, owner=what)),
            ("aggregation_interval", aggregation_interval),
            ("aggregation_secondary_key", secondary),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)
        self._check_types()
        if function is None:
            self._check_columns()

    @property
    def feature_types(self) -> dict[str, DataType]:
        """The features' names and types, in order."""
        return {aggregate.name: aggregate.dtype for aggregate in self.features}

    @property
    def join_keys(self) -> tuple[Field, ...]:
        """The key columns of all entities, in order."""
        return tuple(key for entity in self.entities for key in entity.join_keys)

    @property
    def columns(self) -> tuple[Field, ...]:
        """What the function must return: keys, time, and the columns and conditions of the features."""
        return tuple({field.name: field for field in self._uses()}.values())

    def get_online_features(self, join_keys: Any) -> Any:
        """The view's features of one or several keys now; see `FeatureService.get_online_features`."""
        from penstock.definitions.actions import online_features

        return online_features(self.name, join_keys, None)

    def _uses(self) -> list[Field]:
        fields = [*self.join_keys, Field(self.timestamp_field, Timestamp)]
        for aggregate in self.features:
            condition = [] if aggregate.where is None else [Field(aggregate.where, Bool)]
            fields += [aggregate.input_column, *condition]
        return fields

    def _check_types(self) -> None:
        types: dict[str, DataType] = {}
        for field in self._uses():
            known = types.setdefault(field.name, field.dtype)
            if known is not field.dtype:
                raise DefinitionError(
                    f"{self.called} {self.name!r}: column {field.name!r} is used as {known} and as "
                    f"{field.dtype}; allowed is one type for a column. Correct one, or make a second column in the "
                    "function."
                )

    def _check_columns(self) -> None:
        columns = {field.name: field.dtype for field in source_schema(self.source)}
        for field in self.columns:
            if columns.get(field.name) is not field.dtype:
                raise DefinitionError(
                    f"{self.called} {self.name!r}: column {field.name!r} of type {field.dtype} is not in "
                    f"source {self.source.name!r}; allowed are {describe_columns(columns)}. Correct the "
                    "name or type, or compute the column in a function."
                )


def stream_feature_view(
    *,
    source: EventSource,
    entities: Sequence[Entity],
    features: Sequence[Aggregate],
    mode: str = "numpy",
    timestamp_field: str | None = None,
    name: str | None = None,
    max_keys: int = DEFAULT_MAX_KEYS,
    aggregation_interval: timedelta | None = None,
    aggregation_secondary_key: str | Field | None = None,
    description: str = "",
    owner: str = "",
    tags: Mapping[str, str] | None = None,
) -> Callable[[Function], StreamFeatureView]:
    """Make a function into a `StreamFeatureView`, named after the function unless `name` is given."""

    def decorate(function: Function) -> StreamFeatureView:
        return StreamFeatureView(
            name or name_of(function, owner="stream feature view"),
            source=source,
            entities=entities,
            features=features,
            mode=mode,
            timestamp_field=timestamp_field,
            function=function,
            max_keys=max_keys,
            aggregation_interval=aggregation_interval,
            aggregation_secondary_key=aggregation_secondary_key,
            description=description or description_of(function),
            owner=owner,
            tags=tags,
        )

    return decorate


@dataclass(frozen=True, slots=True, init=False)
class RealtimeFeatureView(_Features):
    """Features computed when an event is scored, from the request and other views' features.

    Parameters
    ----------
    name
        The view's name.
    sources
        One for each argument of the function: a `RequestSource`, a stream feature view, or ``view[["a", "b"]]``.
    mode
        As for `StreamFeatureView`.
    features
        The `Attribute` objects that the function returns.
    function
        The function; in mode numpy one mapping of arrays an argument, and a mapping of arrays back.
    """

    name: str
    sources: tuple[RequestSource | FeatureReference, ...]
    mode: str
    features: tuple[Attribute, ...]
    function: Function
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        *,
        sources: Sequence[RequestSource | StreamFeatureView | FeatureReference],
        features: Sequence[Attribute],
        function: Function,
        mode: str = "numpy",
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"realtime feature view {check_name(name, what='realtime feature view')!r}"
        check_mode(mode, owner=what)
        attributes = at_least_one(
            features,
            Attribute,
            owner=what,
            argument="features",
            example='features=[Attribute("ratio", Float64)]',
        )
        check_distinct([attribute.name for attribute in attributes], owner=what, called="features")
        arguments = _realtime_sources(sources, owner=what)
        check_function(function, len(arguments), owner=what)
        values = (
            ("name", name),
            ("sources", arguments),
            ("mode", mode),
            ("features", attributes),
            ("function", function),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        )
        for attribute_name, value in values:
            object.__setattr__(self, attribute_name, value)

    @property
    def feature_types(self) -> dict[str, DataType]:
        """The features' names and types, in order."""
        return {attribute.name: attribute.dtype for attribute in self.features}


def realtime_feature_view(
    *,
    sources: Sequence[RequestSource | StreamFeatureView | FeatureReference],
    features: Sequence[Attribute],
    mode: str = "numpy",
    name: str | None = None,
    description: str = "",
    owner: str = "",
    tags: Mapping[str, str] | None = None,
) -> Callable[[Function], RealtimeFeatureView]:
    """Make a function into a `RealtimeFeatureView`, named after the function unless `name` is given."""

    def decorate(function: Function) -> RealtimeFeatureView:
        return RealtimeFeatureView(
            name or name_of(function, owner="realtime feature view"),
            sources=sources,
            features=features,
            function=function,
            mode=mode,
            description=description or description_of(function),
            owner=owner,
            tags=tags,
        )

    return decorate


FeatureView = StreamFeatureView | RealtimeFeatureView


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """Some features of a view, perhaps under another name or with keys from other columns."""

    view: FeatureView
    name: str
    features: tuple[str, ...]
    join_key_map: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, names: Sequence[str]) -> FeatureReference:
        if isinstance(names, str):
            names = [names]
        what = f"feature view {self.view.name!r}"
        selected = at_least_one(
            names, str, owner=what, argument="the selection", example=f'["{self.features[0]}"]'
        )
        unknown = [name for name in selected if name not in self.features]
        if unknown:
            raise DefinitionError(
                f"{what}: feature {unknown[0]!r} does not exist; allowed are {', '.join(self.features)}. "
                "Select one of these."
            )
        check_distinct(selected, owner=what, called="selected features")
        return replace(self, features=selected)

    def with_name(self, name: str) -> FeatureReference:
        """The same features under another view name."""
        return replace(self, name=check_name(name, what="feature view"))

    def with_join_key_map(self, join_key_map: Mapping[str, str]) -> FeatureReference:
        """The same features for keys that the events hold in other columns: ``{join_key: column}``."""
        if isinstance(self.view, RealtimeFeatureView):
            raise DefinitionError(
                f"realtime feature view {self.view.name!r}: it has no join keys, but {dict(join_key_map)!r} maps "
                "some; allowed is to map those of stream feature views. Map them among the view's sources."
            )
        known = [key.name for key in self.view.join_keys]
        unknown = [key for key in join_key_map if key not in known]
        if unknown:
            raise DefinitionError(
                f"feature view {self.view.name!r}: join key {unknown[0]!r} does not exist; allowed are "
                f"{', '.join(known)}. Map one of these: {{join_key: column}}."
            )
        return replace(self, join_key_map=tuple(join_key_map.items()))

    @property
    def feature_types(self) -> dict[str, DataType]:
        """The selected features' names and types, in order."""
        types = self.view.feature_types
        return {name: types[name] for name in self.features}


def source_schema(source: EventSource) -> tuple[Field, ...]:
    """The columns that a view over `source` sees."""
    return source.joined_schema if isinstance(source, LabelSource) else source.schema


def describe_columns(columns: Mapping[str, DataType]) -> str:
    """Columns for an error message: ``amount: Float64, ...``."""
    return ", ".join(f"{name}: {dtype}" for name, dtype in columns.items())


def reference_to(item: object, *, owner: str) -> FeatureReference:
    """`item`, a view or a selection of its features, as a `FeatureReference`."""
    if isinstance(item, FeatureReference):
        return item
    if isinstance(item, StreamFeatureView | RealtimeFeatureView):
        return item.reference()
    raise DefinitionError(
        f"{owner}: features holds {item!r}; allowed are feature views and selections of their features. Write for "
        'example features=[view, other[["a", "b"]]].'
    )


def _realtime_sources(sources: object, *, owner: str) -> tuple[RequestSource | FeatureReference, ...]:
    if not isinstance(sources, list | tuple) or not sources:
        raise DefinitionError(
            f"{owner}: sources is {sources!r}; allowed is a list of at least one RequestSource or stream feature view. "
            "Write for example sources=[RequestSource(schema=[...]), view]."
        )
    return tuple(_realtime_source(source, owner=owner) for source in sources)


def _realtime_source(source: object, *, owner: str) -> RequestSource | FeatureReference:
    if isinstance(source, RequestSource):
        return source
    if isinstance(source, StreamFeatureView | FeatureReference):
        reference = reference_to(source, owner=owner)
        if isinstance(reference.view, StreamFeatureView):
            check_no_arrays(reference.feature_types, owner=owner, taker="a realtime feature view")
            return reference
    raise DefinitionError(
        f"{owner}: sources holds {source!r}; allowed are RequestSource, stream feature views and selections of their "
        'features. Write for example sources=[request, view[["a", "b"]]].'
    )


def _time_field(name: str | None, source: EventSource, function: Function | None, *, owner: str) -> str:
    if name is None:
        return source.time_field
    if function is not None:
        return check_name(name, what=f"{owner}, timestamp_field")
    return find_time_field(name, source_schema(source), owner=owner)
