from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from penstock.core.errors import ModelError
from penstock.core.time import DAY_US
from penstock.definitions.models import TimeSplit
from penstock.definitions.policies import CostMatrix
from penstock.models.artifacts import write_files
from penstock.models.loading import load_model
from penstock.models.manifest import Feature
from penstock.models.training import TrainingData, TrainingSpec, fit, train

NAMES = tuple(f"f{i}" for i in range(6))
WEEK = timedelta(days=7)


@pytest.fixture
def data(problem):
    times = np.linspace(0, 21 * DAY_US - 1, len(problem.labels)).astype(np.int64)
    return TrainingData(
        vectors=problem.vectors,
        labels=problem.labels,
        times_us=times,
        features=tuple(Feature(name, "Float64") for name in NAMES),
        service_fingerprint="service",
        known_at_us=times + 7 * DAY_US,
        days=times // DAY_US,
        entities=np.arange(len(times)) % 97,
        columns={"amount": np.full(len(times), 3.0)},
    )


@pytest.fixture
def spec():
    return TrainingSpec(
        name="fraud",
        estimator=XGBClassifier(n_estimators=15, n_jobs=1),
        split=TimeSplit(train=WEEK, delay=WEEK, test=WEEK),
        thresholds={"review": 0.5},
        costs=CostMatrix(1, "amount"),
        top_k=10,
    )


def test_from_rows_to_a_version_that_scores(spec, data, tmp_path):
    lines = []
    trained = train(spec, data, progress=lines.append)
    assert [line.split(": ")[1].split()[0] for line in lines] == ["splitting", "fitting", "evaluating"]
    assert trained.report.roc_auc > 0.8
    assert trained.report.card_precision.k == 10
    assert trained.report.thresholds[0].cost is not None
    assert not hasattr(spec.estimator, "n_features_in_")
    files = trained.export(created_us=5, parent="fraud:1")
    manifest = files.manifest
    assert (manifest.data.rows, manifest.data.positives) == (
        len(trained.train_vectors),
        int(manifest.data.positives),
    )
    assert (manifest.created_us, manifest.parent, manifest.service_fingerprint) == (5, "fraud:1", "service")
    assert manifest.metrics["roc_auc"] == trained.report.roc_auc
    assert manifest.thresholds == {"review": 0.5}
    write_files(files, tmp_path)
    model = load_model(tmp_path, digest=files.digest, version="fraud:2")
    assert model.score(data.vectors[trained.test_rows]) == pytest.approx(trained.test_scores, abs=2e-7)


def test_labels_known_too_late_do_not_train(spec, data):
    late = data.known_at_us.copy()
    late[:300] = 15 * DAY_US
    trained = train(spec, replace(data, known_at_us=late))
    assert trained.data.rows == train(spec, data).data.rows - 300


def test_rows_without_label_and_ineligible_rows_take_no_part(spec, data):
    whole = train(spec, data)
    labels = data.labels.copy()
    labels[::2] = np.nan
    eligible = np.arange(len(labels)) % 3 > 0
    halved = train(spec, replace(data, labels=labels, eligible=eligible))
    assert halved.data.rows == pytest.approx(whole.data.rows / 2, abs=1)
    assert halved.report.rows == pytest.approx(whole.report.rows / 3, abs=2)


def test_equal_data_equal_digest(spec, data):
    first = train(spec, data).data.digest
    assert train(spec, data).data.digest == first
    vectors = data.vectors.copy()
    vectors[10, 0] = np.nextafter(vectors[10, 0], np.inf)
    assert train(spec, replace(data, vectors=vectors)).data.digest != first


def test_regression(data):
    spec = TrainingSpec(
        name="price",
        estimator=make_pipeline(SimpleImputer(), StandardScaler(), Ridge()),
        split=TimeSplit(train=WEEK, delay=WEEK, test=WEEK),
        task="regression",
    )
    trained = train(spec, replace(data, labels=np.nan_to_num(data.vectors[:, 0]) * 2 + 1))
    assert trained.report.r2 > 0.9
    assert trained.export(created_us=0).manifest.task == "regression"


def test_weights_go_to_each_estimator_in_its_own_way(problem):
    def fitted(estimator):
        return fit(estimator, problem.without_nulls, problem.labels, feature_names=NAMES, imbalance="weight")

    ratio = (1 - problem.labels.mean()) / problem.labels.mean()
    assert fitted(XGBClassifier(n_estimators=2, n_jobs=1)).get_params()["scale_pos_weight"] == pytest.approx(
        ratio
    )
    assert fitted(LogisticRegression()).class_weight == "balanced"
    assert (
        fitted(make_pipeline(StandardScaler(), LogisticRegression())).steps[-1][1].class_weight == "balanced"
    )
    for estimator in (
        GradientBoostingClassifier(n_estimators=5),
        make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=5)),
    ):
        mean = fitted(estimator).predict_proba(problem.without_nulls)[:, 1].mean()
        assert mean > 3 * problem.labels.mean()


def test_an_estimator_that_takes_no_weights_is_named(problem):
    with pytest.raises(ModelError, match="KNeighborsClassifier: imbalance is"):
        fit(
            KNeighborsClassifier(),
            problem.without_nulls,
            problem.labels,
            feature_names=NAMES,
            imbalance="weight",
        )


def test_nulls_are_refused_by_name_with_advice(problem):
    vectors = problem.without_nulls.copy()
    vectors[5, 2] = np.nan
    for estimator in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())):
        with pytest.raises(ModelError, match=r"features f2 hold some.*SimpleImputer"):
            fit(estimator, vectors, problem.labels, feature_names=NAMES)


@pytest.mark.parametrize(
    "estimator",
    [
        XGBClassifier(n_estimators=2, n_jobs=1),
        make_pipeline(StandardScaler(), XGBClassifier(n_estimators=2, n_jobs=1)),
        HistGradientBoostingClassifier(max_iter=2),
        make_pipeline(SimpleImputer(), LogisticRegression(max_iter=500)),
    ],
    ids=["xgboost", "xgboost in a pipeline", "histogram", "imputer"],
)
def test_nulls_are_fine_where_the_estimator_takes_them(estimator, problem):
    assert fit(estimator, problem.vectors, problem.labels, feature_names=NAMES) is not estimator


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(50), "0 of 50 training rows are positive"),
        (np.ones(50), "50 of 50 training rows are positive"),
        (np.full(50, 3.0), r"labels hold \[3.0\]"),
        (np.array([0.0, 1.0] * 24 + [1.0, np.nan]), "1 of them without label"),
    ],
)
def test_labels_that_cannot_train_say_why(labels, message, problem):
    with pytest.raises(ModelError, match=message):
        fit(LogisticRegression(), problem.without_nulls[:50], labels, feature_names=NAMES)


def test_infinite_features_are_named(problem):
    vectors = problem.without_nulls.copy()
    vectors[0, 4] = np.inf
    with pytest.raises(ModelError, match="features f4 hold infinite values"):
        fit(LogisticRegression(), vectors, problem.labels, feature_names=NAMES)


def test_a_failing_fit_keeps_its_message(problem):
    with pytest.raises(ModelError, match=r"LogisticRegression: fitting failed: .*'C'"):
        fit(LogisticRegression(C=-1.0), problem.without_nulls, problem.labels, feature_names=NAMES)


def test_shapes_that_differ_are_refused(spec, data):
    with pytest.raises(ModelError, match=r"expected are \(3000, 6\)"):
        train(spec, replace(data, vectors=data.vectors[:, :5]))
