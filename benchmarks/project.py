"""The stream and latency benchmarks' Penstock project: set up in a fresh folder with the contest's model in production."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.events import START_US

if TYPE_CHECKING:
    from penstock.app import Runtime

DEFINITIONS = Path(__file__).parent / "payments"
SOURCE = "payments"


def open_payments(folder: Path, *, model: Path, durability: str) -> Runtime:
    """A new project in `folder`, open, its log empty."""
    from penstock.app import Runtime

    make_payments(folder, model=model, durability=durability)
    return Runtime.open(folder)


def make_payments(folder: Path, *, model: Path, durability: str, stream: str = "") -> None:
    """A new project in `folder`; `stream` is the KafkaConfig of its source, as Python, where events are not pushed to it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in ("penstock.toml", "definitions.py"):
        shutil.copy(DEFINITIONS / file, folder)
    if stream:
        path = folder / "definitions.py"
        text = path.read_text(encoding="utf-8").replace("    PushConfig,", "    KafkaConfig,")
        path.write_text(text.replace("PushConfig()", stream), encoding="utf-8")
    os.environ["PENSTOCK_ENGINE__DURABILITY"] = durability
    _promote(folder, model)


def warm_up(runtime: Runtime, *, batches: tuple[int, ...]) -> None:
    """Feed payments of other cards and terminals, long before the stream, in batches of these sizes."""
    number = 0
    for size in batches:
        lines = []
        for _ in range(size):
            number += 1
            time = START_US - 10**15 + number * 1_000_000
            lines.append(
                f'{{"event_id":"w{number}","card_id":"w{number % 7}","terminal_id":"w{number % 5}",'
                f'"event_time":{time},"amount":{number % 90 + 1}}}'
            )
        decoded = runtime.engine.decode(SOURCE, "\n".join(lines).encode())
        runtime.process([(SOURCE, decoded)], overlap=size > 1).wait()


def _promote(folder: Path, model: Path) -> None:
    """Register the contest's booster as the champion."""
    from xgboost import XGBClassifier

    from penstock.app import plan_of, registry_of
    from penstock.definitions.project import load_project
    from penstock.models.artifacts import Provenance, export_model
    from penstock.models.manifest import DataRange, Feature

    plan = plan_of(load_project(folder))
    service = plan.services["fraud_features"]
    estimator = XGBClassifier(n_jobs=1)
    estimator.load_model(model)
    random = np.random.default_rng(3)
    vectors = np.round(random.gamma(2.0, 30.0, (2_000, len(service.outputs))), 2)
    provenance = Provenance(
        name="fraud",
        task="binary",
        features=tuple(Feature(output.name, output.dtype.name) for output in service.outputs),
        service_fingerprint=service.fingerprint,
        data=DataRange(START_US, START_US, len(vectors), None, ""),
        created_us=START_US,
        metrics={},
        thresholds={},
        parent=None,
    )
    registry = registry_of(folder)
    version = registry.register(
        export_model(estimator, vectors, provenance=provenance),
        actor="benchmark",
        reason="the contest's model",
    )
    registry.promote("fraud", version.version, actor="benchmark", reason="the contest's model")
