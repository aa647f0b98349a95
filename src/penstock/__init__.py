"""Penstock: real-time machine learning from event to decision.

Definitions are a few Python objects; importing them loads no heavy library.
"""

from penstock.definitions.aggregates import Aggregate
from penstock.definitions.entities import Entity
from penstock.definitions.models import CostMatrix, Endpoint, Model, Policy, TimeSplit
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import FileConfig, LabelSource, PushConfig, RequestSource, StreamSource
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
    "Aggregate",
    "Attribute",
    "CostMatrix",
    "Endpoint",
    "Entity",
    "FeatureService",
    "FileConfig",
    "LabelSource",
    "LifetimeWindow",
    "Model",
    "Policy",
    "PushConfig",
    "RealtimeFeatureView",
    "RequestSource",
    "StreamFeatureView",
    "StreamSource",
    "TimeSplit",
    "TimeWindow",
    "TimeWindowSeries",
    "realtime_feature_view",
    "stream_feature_view",
]
