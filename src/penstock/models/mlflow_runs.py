"""What a version is in MLflow: a run that whoever has no Penstock can read.

It has our files (``penstock/``), a model that plain MLflow users load (``model/``, not for learners), parameters, metrics, and the
data set as input.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.models.artifacts import write_files

if TYPE_CHECKING:
    from penstock.models.manifest import Manifest, ModelFiles

FILES, MODEL = "penstock", "model"
_SQLITE = "sqlite:///"
_VALUE_LENGTH = 6000
_DIGEST_LENGTH = 36
_BATCH = 100


def log_run(client: Any, files: ModelFiles, *, uri: str, now_us: int) -> str:
    """A finished run with all that is known of a version; its id."""
    from mlflow.entities import Metric, Param

    manifest = files.manifest
    run = client.create_run(_experiment(client, manifest.name, uri), run_name=manifest.name)
    run_id = str(run.info.run_id)
    now_ms = now_us // 1000
    params = [Param(key, str(value)[:_VALUE_LENGTH]) for key, value in manifest.parameters.items()]
    metrics = [Metric(key, value, now_ms, 0) for key, value in plain_numbers(manifest.metrics).items()]
    for start in range(0, len(params), _BATCH):
        client.log_batch(run_id, params=params[start : start + _BATCH])
    client.log_batch(run_id, metrics=metrics)
    for key, value in _tags(manifest).items():
        client.set_tag(run_id, key, value)
    client.log_inputs(run_id, [_dataset(manifest)])
    with tempfile.TemporaryDirectory() as folder:
        write_files(files, Path(folder) / FILES)
        if is_plain(files):
            save_model(files, Path(folder) / MODEL)
        client.log_artifacts(run_id, folder)
    client.set_terminated(run_id)
    return run_id


def _experiment(client: Any, name: str, uri: str) -> str:
    title = f"penstock/{name}"
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(title)
    if found is None:
        try:
            return str(client.create_experiment(title, artifact_location=artifact_location(uri, title)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(title)
    return str(found.experiment_id)


def artifact_location(uri: str, title: str) -> str | None:
    """Where an experiment's files go: a server knows itself (None); for a SQLite file beside it, not in the current folder.

    >>> artifact_location("http://mlflow:5000", "penstock/fraud")
    >>> artifact_location("sqlite:////srv/mlflow.db", "penstock/fraud")
    'file:///srv/mlflow-artifacts/penstock/fraud'
    """
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).absolute().parent / "mlflow-artifacts" / title).as_uri()


def save_model(files: ModelFiles, folder: Path) -> None:
    """Write the model as MLflow's own users load it, with its signature: XGBoost's flavour, else ONNX.

    The requirements are given: finding them out would load the model in a process of its own for several seconds.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema, TensorSpec

    manifest = files.manifest
    inputs = Schema([ColSpec("double", name, required=False) for name in manifest.feature_names])
    requirements = [f"{name}=={version}" for name, version in manifest.libraries.items()]
    if manifest.engine == "xgboost":
        import mlflow.xgboost
        import numpy as np
        import xgboost

        booster = xgboost.Booster()
        booster.load_model(bytearray(files["ubj"]))
        booster.feature_names = list(manifest.feature_names)
        outputs = Schema([TensorSpec(np.dtype(np.float32), (-1,))])
        mlflow.xgboost.save_model(
            booster,
            str(folder),
            signature=ModelSignature(inputs=inputs, outputs=outputs),
            pip_requirements=requirements,
        )
        return
    import mlflow.onnx
    import onnx

    mlflow.onnx.save_model(
        onnx.load_from_string(files["onnx"]),
        str(folder),
        signature=ModelSignature(inputs=inputs),
        pip_requirements=requirements,
        save_as_external_data=False,
    )


def is_plain(files: ModelFiles) -> bool:
    """Whether the version is a model that others can load; one that goes on learning scores by copies beside the registry."""
    return files.manifest.engine != "online"


def plain_numbers(metrics: Any, prefix: str = "") -> dict[str, float]:
    """The numbers of a report by the path to them, as MLflow has metrics.

    >>> plain_numbers({"rows": 5, "thresholds": [{"action": "block", "recall": 0.5}], "r2": None})
    {'rows': 5.0, 'thresholds.block.recall': 0.5}
    """
    found: dict[str, float] = {}
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= plain_numbers(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
        elif key in {"thresholds", "alarms"}:
            for one in value:
                found |= plain_numbers(one, f"{name}.{one['action']}.")
    return found


def _tags(manifest: Manifest) -> dict[str, str]:
    return {
        "penstock.service_fingerprint": manifest.service_fingerprint,
        "penstock.training_digest": manifest.data.digest,
        **({} if manifest.parent is None else {"penstock.parent": manifest.parent}),
        **({} if manifest.dataset is None else {"penstock.dataset": manifest.dataset}),
    }


def _dataset(manifest: Manifest) -> Any:
    """The training rows as MLflow's data set input: named by the recorded data set, with the digest of every value."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = manifest.data
    schema = {"features": [asdict(feature) for feature in manifest.features]}
    profile = {
        "rows": data.rows,
        "positives": data.positives,
        "start_us": data.start_us,
        "end_us": data.end_us,
    }
    return DatasetInput(
        Dataset(
            name=manifest.dataset or f"{manifest.name}-training",
            digest=data.digest[:_DIGEST_LENGTH],
            source_type="penstock",
            source=json.dumps({"dataset": manifest.dataset, "service": manifest.service_fingerprint}),
            schema=json.dumps(schema)[: 2**20 - 2],
            profile=json.dumps(profile),
        ),
        [InputTag("mlflow.data.context", "training")],
    )
