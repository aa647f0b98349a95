"""An MLflow tracking server, from Python's packages, over SQLite."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from services.base import HOST, Service, ServiceError, http_ready


class MLflow(Service):
    """A server that keeps its runs and models from one start to the next."""

    name = "mlflow"
    default_port = 15000
    stop_seconds = 2.0  # its workers do not listen; what it has answered is stored
    start_seconds = 120.0  # it creates its database on the first start

    @property
    def address(self) -> str:
        """Its HTTP API."""
        return f"http://{HOST}:{self.port}"

    def install(self) -> None:
        """MLflow is one of the development's packages."""
        if find_spec("mlflow") is None:
            raise ServiceError("mlflow is not installed: run `make setup`.")

    def command(self) -> list[str]:
        """The server, with one worker."""
        return [
            *(
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host",
                HOST,
                "--port",
                str(self.port),
                "--workers",
                "1",
            ),
            *("--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(self.folder / "artifacts")),
        ]

    def ready(self) -> bool:
        """Whether it is up."""
        return http_ready(f"{self.address}/health")
