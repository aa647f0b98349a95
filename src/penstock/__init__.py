"""Penstock: real-time machine learning from event to decision.

Definitions are a few Python objects; importing them loads no heavy library.
"""

from penstock.client import AsyncClient, Client
from penstock.definitions.aggregates import Aggregate
from penstock.definitions.alert_caps import AlertCap
from penstock.definitions.alert_lists import AddTo
from penstock.definitions.alerts import Alert, Apprise, OnDecision, OnMetric, Webhook
from penstock.definitions.batch_configs import DeltaConfig, DuckDBConfig, FileConfig
from penstock.definitions.batch_sources import BatchSource
from penstock.definitions.batch_views import BatchFeatureView, batch_feature_view
from penstock.definitions.detectors import NearestNeighbours
from penstock.definitions.endpoints import Arm, Endpoint
from penstock.definitions.entities import Entity
from penstock.definitions.gates import Gate
from penstock.definitions.guards import Guard
from penstock.definitions.kafka_configs import KafkaConfig
from penstock.definitions.key_lists import KeyList
from penstock.definitions.learning import Bandit, Ensemble, Online
from penstock.definitions.models import Model, TimeSplit
from penstock.definitions.monitors import Monitor
from penstock.definitions.policies import AlertBudget, CostMatrix, CostOptimal, Policy, Rule
from penstock.definitions.postgres_configs import PostgresChangesConfig, PostgresConfig
from penstock.definitions.postgres_stream_configs import PostgresStreamConfig
from penstock.definitions.retraining import Retraining
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import LabelSource, PushConfig, RequestSource, StreamSource
from penstock.definitions.user_aggregations import UserAggregation
from penstock.definitions.views import (
    Attribute,
    RealtimeFeatureView,
    StreamFeatureView,
    realtime_feature_view,
    stream_feature_view,
)
from penstock.definitions.windows import LifetimeWindow, TimeWindow, TimeWindowSeries

__version__ = "0.1.0"

__all__ = [
    "AddTo",
    "Aggregate",
    "Alert",
    "AlertBudget",
    "AlertCap",
    "Apprise",
    "Arm",
    "AsyncClient",
    "Attribute",
    "Bandit",
    "BatchFeatureView",
    "BatchSource",
    "Client",
    "CostMatrix",
    "CostOptimal",
    "DeltaConfig",
    "DuckDBConfig",
    "Endpoint",
    "Ensemble",
    "Entity",
    "FeatureService",
    "FileConfig",
    "Gate",
    "Guard",
    "KafkaConfig",
    "KeyList",
    "LabelSource",
    "LifetimeWindow",
    "Model",
    "Monitor",
    "NearestNeighbours",
    "OnDecision",
    "OnMetric",
    "Online",
    "Policy",
    "PostgresChangesConfig",
    "PostgresConfig",
    "PostgresStreamConfig",
    "PushConfig",
    "RealtimeFeatureView",
    "RequestSource",
    "Retraining",
    "Rule",
    "StreamFeatureView",
    "StreamSource",
    "TimeSplit",
    "TimeWindow",
    "TimeWindowSeries",
    "UserAggregation",
    "Webhook",
    "batch_feature_view",
    "realtime_feature_view",
    "stream_feature_view",
]
