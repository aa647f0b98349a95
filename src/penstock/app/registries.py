"""Which model registry a project uses: a folder, or MLflow."""

from __future__ import annotations

import re
from pathlib import Path

from penstock.core.clock import Clock
from penstock.models.registry import LocalRegistry, ModelRegistry

_SQLITE = "sqlite:///"
_MLFLOW = re.compile(r"(https?|sqlite|postgresql|mysql|mssql|databricks)[:+]")


def is_mlflow(uri: str) -> bool:
    """Whether a registry's address is MLflow's, and not a folder.

    >>> is_mlflow("http://models:5000"), is_mlflow("sqlite:///mlflow.db"), is_mlflow(".penstock/registry")
    (True, True, False)
    """
    return _MLFLOW.match(uri) is not None


def open_registry(root: Path, uri: str, *, state: Path, clock: Clock) -> ModelRegistry:
    """The registry at `uri`: a folder seen from the project's `root`, or an address of MLflow.

    The file of a SQLite address is seen from `root`, too. Files of MLflow's versions are kept in `state` once they were used.
    """
    if not is_mlflow(uri):
        return LocalRegistry(root / uri, clock=clock)
    from penstock.models.mlflow_registry import MlflowRegistry

    if uri.startswith(_SQLITE):
        uri = f"{_SQLITE}{(root / uri.removeprefix(_SQLITE)).absolute()}"
    return MlflowRegistry(uri, cache=state / "mlflow", clock=clock)
