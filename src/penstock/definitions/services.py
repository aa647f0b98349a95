"""Feature services: the ordered features that one model consumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from penstock.core.errors import DefinitionError
from penstock.core.types import DataType, check_name
from penstock.definitions.tags import Tags, tags_of
from penstock.definitions.views import FeatureReference, RealtimeFeatureView, StreamFeatureView, reference_to


@dataclass(frozen=True, slots=True, init=False)
class FeatureService:
    """The ordered list of features that one model consumes.

    Parameters
    ----------
    name
        The service's name.
    features
        Feature views, or selections of their features: ``view[["a"]]``, ``view.with_name("x")``,
        ``view.with_join_key_map({"user_id": "sender_id"})``.
    """

    name: str
    features: tuple[FeatureReference, ...]
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        *,
        features: Sequence[StreamFeatureView | RealtimeFeatureView | FeatureReference],
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"FeatureService {check_name(name, what='FeatureService')!r}"
        if not isinstance(features, list | tuple) or not features:
            raise DefinitionError(
                f"{what}: features is {features!r}; allowed is a list of at least one feature view. Write for example "
                'features=[view, other[["a", "b"]]].'
            )
        references = tuple(reference_to(item, owner=what) for item in features)
        names = [f"{reference.name}.{feature}" for reference in references for feature in reference.features]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise DefinitionError(
                f"{what}: feature {repeated[0]!r} occurs twice; allowed is each name once. Give one of the views "
                'another name with .with_name("...").'
            )
        for attribute, value in (
            ("name", name),
            ("features", references),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        ):
            object.__setattr__(self, attribute, value)

    @property
    def feature_types(self) -> dict[str, DataType]:
        """The features' names (``view.feature``) and types, in order."""
        return {
            f"{reference.name}.{name}": dtype
            for reference in self.features
            for name, dtype in reference.feature_types.items()
        }

    def get_features_for_events(self, events: Any = None, **options: Any) -> Any:
        """Point-in-time features for a frame of events.

        Parameters
        ----------
        events
            A pyarrow Table, pandas or polars frame, or a list of dicts, with the join keys, the request's columns
            and the time of each row. Every row and column is kept; features are appended as ``view__feature``.
            None: every event in the open project's log, as a stream that needs little memory (``.batches()``,
            ``.to_parquet(path)``), in log order (``"served"``) or event-time order (``"corrected"``).
        history
            ``{"source": frame}``: what the features are computed from. Default: the project's log; where a source
            has none and the events carry its columns, the events themselves.
        mock_inputs
            `history` under the name that tests use.
        timestamp_key
            The column with the rows' time; default: the source's time field.
        as_of
            ``"corrected"`` (late and corrected rows in place) or ``"served"`` (in arrival order, which only the log of
            an open project has: not together with `history`, and only for events that are logged).

        Returns
        -------
        penstock.engine.training_set.FeatureFrame
            With ``.to_arrow() .to_pandas() .to_polars() .to_numpy() .batches() .to_parquet(path)``.
        """
        from penstock.definitions.actions import features_for_events

        return features_for_events(list(self.features), events, **options)

    def get_online_features(self, join_keys: Any, request_data: Any = None) -> Any:
        """The features of one or several keys now, from the open project.

        Windows are as of now: what has expired since a key's last event is not in them.

        Parameters
        ----------
        join_keys
            ``{"user_id": "ann"}``, or a list of such dicts.
        request_data
            The columns of the service's request sources, one dict a key.

        Returns
        -------
        penstock.engine.online.OnlineFeatures
            With ``.to_dict() .to_dicts() .to_arrow() .to_numpy() .metadata()``.
        """
        from penstock.definitions.actions import online_features

        return online_features(self.name, join_keys, request_data)

    def get_features_in_range(self, start_time: datetime, end_time: datetime, *, entities: Any = None) -> Any:
        """Features over a range of time: one row for each key and interval in which they stay the same.

        A look-up of the key at any time of an interval gives its values. A key has intervals from its first event on;
        late events count as in their places. All features must be of one key, and change only when events enter or leave
        a window.

        Parameters
        ----------
        start_time, end_time
            From inclusive to exclusive; naive ones are UTC.
        entities
            A frame of join keys: only these. Default: every key in the open project's log.

        Returns
        -------
        penstock.engine.feature_stream.FeatureStream
            Join keys, features as ``view__feature``, ``_valid_from`` (inclusive) and ``_valid_to`` (exclusive), in the
            order in which the intervals end. ``.batches()`` and ``.to_parquet(path)`` need little memory.
        """
        from penstock.definitions.actions import features_in_range

        return features_in_range(list(self.features), start_time, end_time, entities=entities)
