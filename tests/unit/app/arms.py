"""A project whose endpoint has arms, models that give one score, and versions in its registry."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from sklearn.linear_model import LogisticRegression

from penstock.app.runtime import plan_of, registry_of
from penstock.definitions.project import load_project
from penstock.models.artifacts import Provenance, export_model
from penstock.models.manifest import DataRange, Feature

START = datetime(2026, 1, 1, tzinfo=UTC)
DEFINITIONS = """
from datetime import timedelta
from sklearn.linear_model import LogisticRegression
from penstock import *
from penstock.types import Bool, Field, Float64, String, Timestamp

AMOUNT = Field("amount", Float64)
card = Entity("card", [Field("card_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("id", String), Field("card_id", String, optional=True), Field("at", Timestamp), AMOUNT],
    event_id_field="id",
    max_future_skew=timedelta(days=10_000),
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at")
spending = StreamFeatureView(
    "spending", source=payments, entities=[card],
    features=[Aggregate(AMOUNT, f, time_window=timedelta(hours=1), name=f) for f in ("sum", "count")],
)
small = FeatureService("small", features=[spending[["sum"]]])
wide = FeatureService("wide", features=[spending])
day = timedelta(days=1)
narrow = Model("narrow", features=small, label=frauds, estimator=LogisticRegression(), split=TimeSplit(day, day, day))
model = Model("fraud", features=wide, label=frauds, estimator=LogisticRegression(), split=TimeSplit(day, day, day))
checkout = Endpoint(
    "checkout", source=payments, model=model, policy=Policy("card", actions={"block": 0.9}), sticky=card,
    arms=[
        Arm("champion", weight=80),
        Arm("challenger", version="challenger", weight=20),
        Arm("narrow", model=narrow, weight=0),
        Arm("watcher", version="challenger", shadow=True),
        Arm("narrow_watcher", model=narrow, shadow=True),
    ],
)
"""


class Constant:
    """A model that gives one score."""

    def __init__(self, version, score, feature_names=("spending.sum", "spending.count")):
        self.version, self.digest, self.value, self.feature_names = (
            version,
            f"digest of {version}",
            score,
            feature_names,
        )

    def score(self, vectors):
        return np.full(len(vectors), self.value)


def write_project(root, text=DEFINITIONS):
    (root / "penstock.toml").write_text("[engine]\ndurability = 'process'\n")
    (root / "definitions.py").write_text(text)
    return root


def events(start, count):
    return [
        {"id": f"e{i}", "card_id": f"c{i % 50}", "at": START + timedelta(seconds=i), "amount": float(i % 90)}
        for i in range(start, start + count)
    ]


def register(root, name="fraud", *, shift=0.0, created_us=1, chosen=None):
    """A small trained version of a model of the project; `shift` makes it another one, `chosen` are its own thresholds."""
    files = trained(root, name, shift=shift, created_us=created_us, chosen=chosen)
    return registry_of(root).register(files, actor="ann", reason="test")


def trained(root, name="fraud", *, shift=0.0, created_us=1, chosen=None, estimator=None):
    """The files of such a version."""
    project = load_project(root)
    service = plan_of(project).services[project.models[name].features.name]
    rng = np.random.default_rng(5)
    vectors = rng.normal(100 + shift, 50, (400, len(service.feature_names)))
    labels = (vectors[:, 0] + rng.normal(0, 20, 400) > 120 + shift).astype(float)
    files = export_model(
        (estimator or LogisticRegression()).fit(vectors, labels),
        vectors,
        provenance=Provenance(
            name=name,
            task="binary",
            features=tuple(Feature(one, "Float64") for one in service.feature_names),
            service_fingerprint=service.fingerprint,
            data=DataRange(start_us=0, end_us=1, rows=400, positives=int(labels.sum()), digest="data"),
            created_us=created_us,
            chosen={action: {"threshold": threshold} for action, threshold in (chosen or {}).items()},
        ),
    )
    assert replace(files.manifest, name=name) == files.manifest
    return files


def promote(root, version, stage="Production"):
    return registry_of(root).promote(version.name, version.version, stage=stage, actor="ann", reason="test")
