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


def pytest_collection_modifyitems(items):
    """What takes longest begins: processes take tests from each other's end, and so none of these is cut in two, or the last."""
    items.sort(key=lambda item: item.get_closest_marker("early") is None)
