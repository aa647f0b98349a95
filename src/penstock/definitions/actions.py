"""What definitions can do: the one place where definitions reach up to the wiring, when called, never when imported.

Tecton's users call ``service.get_features_for_events(...)`` and ``source.ingest(...)`` on the definitions
themselves. The definitions stay inert; these functions import `penstock.app` at the call (see ADR 0003).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.definitions.batch_views import BatchFeatureView
    from penstock.definitions.sources import EventSource
    from penstock.definitions.views import FeatureReference, FeatureView


def features_for_events(references: Sequence[FeatureReference], events: Any, **options: Any) -> Any:
    """Point-in-time features of `references` for `events`; see `penstock.app.features_for_events`."""
    from penstock import app

    return app.features_for_events(references, events, **options)


def online_features(name: str, join_keys: Any, request_data: Any) -> Any:
    """The features of a service or view by key, now; see `penstock.app.online_features`."""
    from penstock import app

    return app.online_features(name, join_keys, request_data)


def features_in_range(
    references: Sequence[FeatureReference], start_time: datetime, end_time: datetime, *, entities: Any
) -> Any:
    """Features of `references` over a range of time; see `penstock.app.features_in_range`."""
    from penstock import app

    return app.features_in_range(references, start_time, end_time, entities=entities)


def profiles_in_range(
    view: BatchFeatureView, start_time: datetime, end_time: datetime, **options: Any
) -> Any:
    """The intervals in which the values of `view` stay the same; see `penstock.app.profiles_in_range`."""
    from penstock import app

    return app.profiles_in_range(view, start_time, end_time, **options)


def ingest(
    source: EventSource, events: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, dry_run: bool
) -> Any:
    """Push `events` into the running project; see `penstock.app.ingest`."""
    from penstock import app

    return app.ingest(source, events, dry_run=dry_run)


def run_transformation(view: FeatureView, input_data: Any, *, mock_inputs: Mapping[str, Any] | None) -> Any:
    """Call `view`'s function on `input_data` as the engine does; see `penstock.app.run_transformation`."""
    from penstock import app

    return app.run_transformation(view, input_data, mock_inputs=mock_inputs)
