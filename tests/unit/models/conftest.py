"""A small binary problem with nulls and rare positives, and versions trained on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from xgboost import XGBClassifier

from penstock.models.artifacts import Provenance, export_model, write_files
from penstock.models.manifest import DataRange, Feature

FEATURES = tuple(Feature(f"f{i}", "Float64") for i in range(6))


@dataclass(frozen=True)
class Problem:
    vectors: np.ndarray
    labels: np.ndarray

    @property
    def without_nulls(self):
        return np.nan_to_num(self.vectors)


@pytest.fixture(scope="session")
def problem():
    rng = np.random.default_rng(7)
    vectors = np.round(rng.normal(size=(3000, len(FEATURES))) * 10, 2)
    vectors[:, 1] = rng.integers(0, 2, len(vectors))
    vectors[rng.random(vectors.shape) < 0.05] = np.nan
    labels = (np.nan_to_num(vectors[:, 0]) + 5 * rng.normal(size=len(vectors)) > 15).astype(np.float64)
    return Problem(vectors, labels)


def provenance(*, name="fraud", task="binary", features=FEATURES):
    return Provenance(
        name=name,
        task=task,
        features=features,
        service_fingerprint="service",
        data=DataRange(start_us=0, end_us=1, rows=3000, positives=200, digest="data"),
        created_us=1,
    )


@pytest.fixture(scope="session")
def estimator(problem):
    return XGBClassifier(n_estimators=20, max_depth=4, n_jobs=1).fit(problem.vectors, problem.labels)


@pytest.fixture(scope="session")
def files(problem, estimator):
    return export_model(estimator, problem.vectors, provenance=provenance())


@pytest.fixture
def folder(files, tmp_path):
    write_files(files, tmp_path / "version")
    return tmp_path / "version"
