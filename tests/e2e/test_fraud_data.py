"""The published fraud data and its published table, reached without the platform.

Simulator and protocol are right if scikit-learn and XGBoost, on features computed by pandas, find the published figures.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from examples.fraud.protocol import Protocol, day_number, split, utc_days
from examples.fraud.simulator import SimulatorConfig, simulate, transactions
from tests.e2e.published_features import DELAY, FEATURES, WINDOWS, card_precision, published_features

REPOSITORY = Path(__file__).parents[2]

# Every column of our data, in order, as 64-bit numbers: it pins the order of rows of one second, which no published total
# shows. The forest, which draws rows by number, hints at it: in this order seed 0 gives .867, .658 and .287, as
# published, after a stable sort .864, .657 and .289 (other seeds differ as much, so it is a hint and no proof).
DATA_DIGEST = "3a6b1b38207474913a3ca3519fea9433"

# model: ROC AUC, average precision, Card Precision@100, tolerance (a forest moves by .005 with its seed)
PUBLISHED_TABLE = {
    "logistic regression": (LogisticRegression(random_state=0), 0.871, 0.606, 0.291, 0.005),
    "decision tree": (DecisionTreeClassifier(max_depth=2, random_state=0), 0.763, 0.496, 0.241, 0.005),
    "random forest": (RandomForestClassifier(random_state=0), 0.867, 0.658, 0.287, 0.01),
    "XGBoost": (
        XGBClassifier(tree_method="exact", base_score=0.5, random_state=0, n_jobs=1),
        0.862,
        0.639,
        0.273,
        0.005,
    ),
}


@pytest.fixture(scope="module")
def data():
    return transactions()


@pytest.fixture(scope="module")
def weeks(data):
    """The rows that the split and its longest window need, their masks, and their standardised features."""
    day = utc_days(data)
    start = day_number(Protocol().train_start)
    recent = data.filter((day >= start - max(WINDOWS) - DELAY - 1) & (day < start + 21))
    masks = split(recent)
    features = published_features(recent)
    scaler = StandardScaler().fit(features[masks.train])
    return recent, masks, scaler.transform(features[masks.train]), scaler.transform(features[masks.test])


def test_the_published_totals(data):
    amount, scenario = data["amount"].to_numpy(), data["fraud_scenario"].to_numpy()
    assert data.num_rows == 1_754_155
    assert np.bincount(scenario).tolist() == [1_739_474, 973, 9_077, 4_631]
    assert pc.sum(data["is_fraud"]).as_py() == 14_681
    assert amount.max() == 2_628.00
    assert round(amount.mean(), 2) == 53.63
    assert len(pc.unique(data["customer_id"])) == 4_990
    _, rows_in_second = np.unique(data["time_seconds"].to_numpy(), return_counts=True)
    assert rows_in_second[rows_in_second > 1].sum() == 231_973


def test_every_bit_of_the_data(data):
    digest = hashlib.sha256()
    for name in ("transaction_id", "time_seconds", "customer_id", "terminal_id", "amount", "fraud_scenario"):
        values = data[name].to_numpy()
        digest.update(values.astype("<f8" if name == "amount" else "<i8").tobytes())
    assert digest.hexdigest()[:32] == DATA_DIGEST


def test_the_published_split(weeks):
    rows, masks, *_ = weeks
    fraud = rows["is_fraud"].to_numpy()
    assert [int(mask.sum()) for mask in masks] == [67_240, 58_264]
    assert [int(fraud[mask].sum()) for mask in masks] == [598, 385]


def test_a_perfect_ranking_reaches_only_the_ceiling(weeks):
    rows, masks, *_ = weeks
    fraud = rows["is_fraud"].to_numpy()[masks.test]
    assert round(precision_at_100(rows, masks, fraud.astype(float)), 3) == 0.397


@pytest.mark.parametrize("name", PUBLISHED_TABLE)
def test_the_published_table(weeks, name):
    rows, masks, train, test = weeks
    model, *published, tolerance = PUBLISHED_TABLE[name]
    fraud = rows["is_fraud"].to_numpy()
    assert train.shape[1] == len(FEATURES) == 15
    scores = model.fit(train, fraud[masks.train]).predict_proba(test)[:, 1]
    found = (
        roc_auc_score(fraud[masks.test], scores),
        average_precision_score(fraud[masks.test], scores),
        precision_at_100(rows, masks, scores),
    )
    assert found == pytest.approx(published, abs=tolerance)


def test_the_published_features_mean_what_the_text_says():
    rows = (
        simulate(SimulatorConfig(customers=25, terminals=20, days=45, radius=60.0))
        .slice(0, 1_500)
        .to_pandas()
    )
    rows["time_seconds"] = rows["time_seconds"] // 7_200 * 7_200  # ties, and windows that begin at an event
    rows["timestamp"] = pd.Timestamp("2018-04-01", tz="UTC") + pd.to_timedelta(rows["time_seconds"], unit="s")
    found = published_features(rows)
    for i in range(0, len(rows), 7):
        now, past = rows.iloc[i], rows.iloc[: i + 1]
        age = (now["time_seconds"] - past["time_seconds"]) / 86_400
        for w in WINDOWS:
            own = past[(past["customer_id"] == now["customer_id"]) & (age < w)]
            there = past[(past["terminal_id"] == now["terminal_id"]) & (age >= 7) & (age < 7 + w)]
            assert found[f"customer_count_{w}d"][i] == len(own)
            assert found[f"customer_mean_amount_{w}d"][i] == pytest.approx(own["amount"].mean(), abs=1e-9)
            assert found[f"terminal_count_{w}d"][i] == len(there)
            share = there["is_fraud"].mean() if len(there) else 0
            assert found[f"terminal_fraud_share_{w}d"][i] == pytest.approx(share, abs=1e-9)
        assert found["is_weekend"][i] == (now["timestamp"].strftime("%a") in {"Sat", "Sun"})
        assert found["is_night"][i] == (int(now["timestamp"].strftime("%H")) <= 6)


def test_the_live_stream_runs_as_a_command(tmp_path):
    labels = tmp_path / "labels.ndjson"
    command = [
        sys.executable,
        "-m",
        "examples.fraud.live",
        "--rate=0",
        "--events=20000",
        "--label-delay-hours=24",
    ]
    run = subprocess.run([*command, f"--labels={labels}"], cwd=REPOSITORY, capture_output=True, check=True)
    payments = [json.loads(line)["transaction_id"] for line in run.stdout.splitlines()]
    known = [json.loads(line)["transaction_id"] for line in labels.read_bytes().splitlines()]
    assert len(set(payments)) == 20_000
    assert 5_000 < len(known) < 15_000
    assert known == payments[: len(known)]


def precision_at_100(rows, masks, scores):
    day, card, fraud = utc_days(rows), rows["customer_id"].to_numpy(), rows["is_fraud"].to_numpy()
    return card_precision(day[masks.test], card[masks.test], scores, fraud[masks.test])
