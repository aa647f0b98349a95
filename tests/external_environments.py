"""Pythons of their own for what is large or does not get along with others: Spark and Airflow. `make services` makes them."""

import os

import pytest

from services.environments import ENVIRONMENTS

REQUIRED = os.environ.get("REQUIRE_SERVICES") == "1"


def environment_python(name):
    """The Python of environment `name`; skips where it is missing, unless nothing may be skipped."""
    python = os.environ.get(f"PENSTOCK_{name.upper()}_PYTHON")
    if python is not None:
        return python
    environment = ENVIRONMENTS[name]
    if not environment.installed and not REQUIRED:
        pytest.skip(f"{name} is not installed: make services")
    environment.install()
    return str(environment.python)
