"""Servers for all tests, by name (see tests/services.py), and homes for stores (tests/homes.py)."""

from tests import services
from tests.homes import home, postgres_home, projects_in_postgres
from tests.services import alertmanager, kafka, mlflow_server, postgres, prometheus, redis

__all__ = [
    "alertmanager",
    "home",
    "kafka",
    "mlflow_server",
    "postgres",
    "postgres_home",
    "projects_in_postgres",
    "prometheus",
    "redis",
]


def pytest_configure():
    services.begin()


def pytest_unconfigure():
    services.finish()
