"""What the tests of the API serve: the template's definitions, a sample of its events, a model that is made in no time."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from xgboost import XGBClassifier

from penstock.app.runtime import plan_of, registry_of
from penstock.cli.template import sample
from penstock.core.time import to_us
from penstock.definitions.project import load_project
from penstock.models.artifacts import Provenance, export_model
from penstock.models.manifest import DataRange, Feature
from penstock.testing.clock import ManualClock

TEMPLATE = Path(sample.__file__).parent
START = sample.START
CLOCK = ManualClock(to_us(START + timedelta(days=60)))
EVENTS = 200


def payments(count=EVENTS, first=0):
    """Payments of the template's sample, as JSON has them."""
    return [row for row, _ in sample.payments()[first : first + count]]


def chargebacks(count=40):
    """What became known of the first payments."""
    return [
        {
            "payment_id": row["payment_id"],
            "is_fraud": fraud,
            "reported_at": (datetime.fromisoformat(str(row["paid_at"])) + timedelta(days=3)).isoformat(),
        }
        for row, fraud in sample.payments()[:count]
    ]


def write_template(root):
    """The template's definitions, and settings for a test."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(TEMPLATE / "definitions.py", root / "definitions.py")
    (root / "penstock.toml").write_text("[engine]\ndurability = 'process'\n")
    return root


def register(root, *, seed=5):
    """A version of the template's model, trained on noise; it takes nulls."""
    project = load_project(root)
    service = plan_of(project).services["fraud_features"]
    draw = np.random.default_rng(seed)
    vectors = draw.normal(40, 30, (300, len(service.feature_names)))
    labels = (vectors[:, 0] + draw.normal(0, 20, 300) > 60).astype(float)
    files = export_model(
        XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1, random_state=0).fit(vectors, labels),
        vectors,
        provenance=Provenance(
            name="fraud",
            task="binary",
            features=tuple(Feature(one, "Float64") for one in service.feature_names),
            service_fingerprint=service.fingerprint,
            data=DataRange(start_us=0, end_us=1, rows=300, positives=int(labels.sum()), digest="data"),
            created_us=seed,
        ),
    )
    return registry_of(root).register(files, actor="ann", reason="test")
