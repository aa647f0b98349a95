"""Real servers for development and CI, without containers: PostgreSQL, Redis, Kafka and others, started in this clone.

``python -m services install|start|stop|status [NAME ...]``; ``make services`` does the first two. Each server has its own
port (``PENSTOCK_SERVICES_OFFSET`` is added to every one) and its own folder under ``.services/``. Not part of the package.
"""

from __future__ import annotations

from services.alertmanager import Alertmanager
from services.base import Service
from services.kafka import Kafka
from services.mlflow import MLflow
from services.postgres import Postgres
from services.prometheus import Prometheus
from services.redis import Redis

SERVICES: dict[str, Service] = {
    service.name: service
    for service in (Postgres(), Redis(), Kafka(), Alertmanager(), Prometheus(), MLflow())
}
