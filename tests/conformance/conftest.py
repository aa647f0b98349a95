"""What suites share."""

from tests.conformance.mlflow_server import database, server

__all__ = ["database", "server"]
