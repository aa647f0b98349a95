"""Wiring: settings, a project opened and running, and the use cases that commands and definitions call."""

from penstock.app.requests import (
    features_for_events,
    features_in_range,
    ingest,
    online_features,
    profiles_in_range,
    run_transformation,
)
from penstock.app.runtime import Runtime, open_reader, plan_of, registry_of, state_folder, store_path

__all__ = [
    "Runtime",
    "features_for_events",
    "features_in_range",
    "ingest",
    "online_features",
    "open_reader",
    "plan_of",
    "profiles_in_range",
    "registry_of",
    "run_transformation",
    "state_folder",
    "store_path",
]
