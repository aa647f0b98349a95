"""Models that go on learning, on the same payments and labels. Beside `definitions`; needs ``penstock[river]``."""

from river import linear_model, optim, preprocessing
from xgboost import XGBClassifier

from penstock import Model, Online

from .definitions import chargebacks, fraud_features
from .enriched_definitions import chargebacks as located_chargebacks
from .enriched_definitions import enriched_features

logistic_online = Model(
    name="logistic_online",
    features=fraud_features,
    label=chargebacks,
    estimator=preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.Adam(3e-4)),
    learning=Online(publish_every=100),
)

# Some 67,000 payments are a week. Fitted anew each week on ten, of whose genuine payments one in five is kept.
# In the four weeks before those that are judged, windows of 5, 10 and 13 weeks reach average precisions of .743, .750 and .751.
WEEK = 67_000
trees_online = Model(
    name="trees_online",
    features=enriched_features,
    label=located_chargebacks,
    estimator=XGBClassifier(
        n_estimators=400,
        max_depth=4,
        learning_rate=0.04,
        min_child_weight=3,
        subsample=0.8,
        colsample_bytree=0.5,
        random_state=0,
        n_jobs=1,
    ),
    learning=Online(refit_every=WEEK, window=10 * WEEK, negatives=5),
)
