"""Servers for all tests, by name: see tests/services.py."""

from tests import services
from tests.services import kafka, postgres, redis

__all__ = ["kafka", "postgres", "redis"]


def pytest_configure():
    services.begin()


def pytest_unconfigure():
    services.finish()
