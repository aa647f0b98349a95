"""Feast's feature server with its SQLite online store: 12 values a card, pushed and read.

Usage: serving.py FOLDER PORT
"""

import shutil
import sys
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig
from feast.types import Float64

folder, port = Path(sys.argv[1]), int(sys.argv[2])
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir(parents=True)
row = {f"f{i}": [0.0] for i in range(12)}
history = {"card_id": ["c0"], "at": pd.to_datetime(["2026-01-01T00:00:00Z"]), **row}
pd.DataFrame(history).to_parquet(folder / "history.parquet")
card = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)
batch = FileSource(name="history", path=str(folder / "history.parquet"), timestamp_field="at")
view = FeatureView(
    name="card",
    entities=[card],
    ttl=timedelta(days=3650),
    schema=[Field(name=name, dtype=Float64) for name in row],
    source=PushSource(name="pushed", batch_source=batch),
    online=True,
)
store = FeatureStore(
    config=RepoConfig(
        project="benchmark",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store=SqliteOnlineStoreConfig(path=str(folder / "online.db")),
        entity_key_serialization_version=3,
    )
)
store.apply([card, view])
store.serve(host="127.0.0.1", port=port, type_="http", no_access_log=True, workers=1)
