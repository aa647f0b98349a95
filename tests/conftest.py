"""Servers for all tests, by name (see tests/services.py), and homes for stores (tests/homes.py)."""

from tests import services
from tests.homes import home, postgres_home, projects_in_postgres
from tests.services import kafka, postgres, redis

__all__ = ["home", "kafka", "postgres", "postgres_home", "projects_in_postgres", "redis"]


def pytest_configure():
    services.begin()


def pytest_unconfigure():
    services.finish()
