"""`python -m examples.fraud --enriched`: what more features gain, by the published protocol."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from sklearn.metrics import average_precision_score, roc_auc_score
from xgboost import XGBClassifier

from penstock.monitoring.report import Grid
from penstock.monitoring.terminal import render_grid

from .definitions import fraud_features
from .enriched_definitions import REACH, enriched_features
from .protocol import Protocol, split
from .training import PUBLISHED_TABLE
from .world import World, events_of, labels_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from penstock.definitions.services import FeatureService

PUBLISHED_SETTINGS = {"tree_method": "exact", "base_score": 0.5}
SLOWER = {
    "tree_method": "hist",
    "n_estimators": 400,
    "max_depth": 4,
    "learning_rate": 0.04,
    "min_child_weight": 3,
}
SLOWER |= {"subsample": 0.8, "colsample_bytree": 0.5}
SETTINGS: dict[str, dict[str, Any]] = {"published settings": PUBLISHED_SETTINGS, "400 shallow trees": SLOWER}
# Its labels are all known when the test week begins: settings are chosen there, never on the test week.
CHOOSING = Protocol(train_start=date(2018, 7, 11))


class Score(NamedTuple):
    """What a model reached in a test week."""

    roc_auc: float
    average_precision: float


class Weeks(NamedTuple):
    """The rows of a protocol with their features."""

    features: NDArray[np.float64]
    truth: NDArray[np.bool_]
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]

    def score(self, settings: dict[str, Any]) -> Score:
        """Train on the first week, test on the last."""
        model = XGBClassifier(random_state=0, n_jobs=1, **settings)
        model.fit(self.features[self.train], self.truth[self.train])
        found = model.predict_proba(self.features[self.test])[:, 1]
        truth = self.truth[self.test]
        return Score(float(roc_auc_score(truth, found)), float(average_precision_score(truth, found)))


def weeks_of(world: World, service: FeatureService, protocol: Protocol) -> Weeks:
    """The three weeks of a protocol, their features point-in-time correct."""
    there = replace(world, protocol=protocol)
    start, stop = protocol.train_start, there.live_start
    rows, past = there.between(start, stop), there.between(start - REACH, stop)
    history = {"transactions": events_of(past), "chargebacks": labels_of(past)}
    frame = service.get_features_for_events(events_of(rows), history=history)
    parts = split(rows, protocol)
    truth = rows["is_fraud"].to_numpy(zero_copy_only=False)
    return Weeks(frame.to_numpy(), truth, parts.train, parts.test)


def run_enriched(console: Console, world: World) -> int:
    """Choose settings on earlier weeks, then compare in the published test week; the process's exit code."""
    started = perf_counter()
    choosing = weeks_of(world, enriched_features, CHOOSING)
    tried = {name: choosing.score(settings).average_precision for name, settings in SETTINGS.items()}
    chosen = max(tried, key=tried.__getitem__)
    for name, precision in tried.items():
        console.print(f"two weeks earlier, {name}: average precision {precision:.3f}", highlight=False)
    published = weeks_of(world, fraud_features, world.protocol).score(PUBLISHED_SETTINGS)
    weeks = weeks_of(world, enriched_features, world.protocol)
    enriched = {name: weeks.score(SETTINGS[name]) for name in dict.fromkeys(("published settings", chosen))}
    console.print(render_grid(_grid(published, enriched, columns=weeks.features.shape[1])))
    best = max(row.average_precision for row in PUBLISHED_TABLE.values())
    gain = enriched[chosen].average_precision - best
    console.print(
        f"Average precision {enriched[chosen].average_precision:.3f} with {chosen!r}, chosen two weeks earlier: "
        f"{gain:+.3f} against the published best, {best:.3f}.",
        highlight=False,
    )
    console.print(
        f"Done in {perf_counter() - started:.0f} s. Next: less examples/fraud/enriched_definitions.py",
        highlight=False,
    )
    return 0


def _grid(published: Score, enriched: dict[str, Score], *, columns: int) -> Grid:
    theirs = PUBLISHED_TABLE["xgboost"]
    rows = [
        ("published, XGBoost", "15", f"{theirs.roc_auc:.3f}", f"{theirs.average_precision:.3f}"),
        ("ours, the same", "15", f"{published.roc_auc:.3f}", f"{published.average_precision:.3f}"),
    ]
    rows += [
        (f"enriched, {name}", str(columns), f"{score.roc_auc:.3f}", f"{score.average_precision:.3f}")
        for name, score in enriched.items()
    ]
    return Grid(
        ("the test week", "features", "AUC ROC", "average precision"), tuple(rows)
    )
