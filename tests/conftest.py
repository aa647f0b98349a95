"""Servers for all tests, by name: see tests/services.py."""

from tests import services
from tests.services import alertmanager, kafka, mlflow_server, postgres, prometheus, redis

__all__ = ["alertmanager", "kafka", "mlflow_server", "postgres", "prometheus", "redis"]


def pytest_configure():
    services.begin()


def pytest_unconfigure():
    services.finish()
