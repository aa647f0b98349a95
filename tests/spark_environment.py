"""The Python that has PySpark: an environment of its own, since PySpark is large and most tests need none."""

import os
from pathlib import Path

import pytest

PYTHON = Path(__file__).parents[1] / ".services/spark/bin/python"


def spark_python():
    """Its path; skips where there is none, unless REQUIRE_SERVICES=1 says that nothing may be skipped."""
    python = Path(os.environ.get("PENSTOCK_SPARK_PYTHON", PYTHON))
    if not python.exists() and os.environ.get("REQUIRE_SERVICES") != "1":
        pytest.skip("PySpark is not installed: make services")
    return str(python)
