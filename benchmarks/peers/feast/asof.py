"""Feast's get_historical_features with its local offline store, which reads the profiles from a Parquet file.

Usage: asof.py EVENTS PROFILES OUTPUT
"""

import logging
import tempfile
import warnings
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
from asof_work import FEATURES, contend
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


def prepare(events, profiles):
    """The profiles as Parquet, the events as pandas, the view registered: none of it is measured."""
    folder = Path(tempfile.mkdtemp())
    pq.write_table(profiles, folder / "profiles.parquet")
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="profile",
        entities=[user],
        ttl=timedelta(days=3650),
        schema=[Field(name=name, dtype=Float64) for name in FEATURES],
        source=FileSource(path=str(folder / "profiles.parquet"), timestamp_field="changed"),
        online=False,
    )
    config = RepoConfig(
        project="benchmark",
        provider="local",
        registry=str(folder / "registry.db"),
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    store.apply([user, view])
    return store, events.to_pandas().rename(columns={"time": "event_timestamp"})


def compute(store, events):
    """Each event with its features."""
    job = store.get_historical_features(entity_df=events, features=[f"profile:{name}" for name in FEATURES])
    return job.to_arrow()


contend(compute, prepare=prepare)
