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

from .enriched_definitions import GROUPS, REACH, enriched_features
from .enrichment import Enrichment, write_profiles
from .protocol import Protocol, split
from .training import PUBLISHED_TABLE
from .world import World, events_of, labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console


PUBLISHED_SETTINGS = {"tree_method": "exact", "base_score": 0.5}
QUICK_SETTINGS = {"tree_method": "hist", "base_score": 0.5}
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
    names: tuple[str, ...]
    truth: NDArray[np.bool_]
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]

    def only(self, names: Sequence[str]) -> Weeks:
        """The same rows with some of the features, in the order that they have."""
        wanted = set(names)
        columns = [i for i, name in enumerate(self.names) if name in wanted]
        return self._replace(features=self.features[:, columns], names=tuple(self.names[i] for i in columns))

    def score(self, settings: dict[str, Any]) -> Score:
        """Train on the first week, test on the last."""
        model = XGBClassifier(random_state=0, n_jobs=1, **settings)
        model.fit(self.features[self.train], self.truth[self.train])
        found = model.predict_proba(self.features[self.test])[:, 1]
        truth = self.truth[self.test]
        return Score(float(roc_auc_score(truth, found)), float(average_precision_score(truth, found)))


def weeks_of(world: World, extra: Enrichment, protocol: Protocol) -> Weeks:
    """The three weeks of a protocol with all features, point-in-time correct."""
    there = replace(world, protocol=protocol)
    start, stop = protocol.train_start, there.live_start
    rows, past = there.between(start, stop), there.between(start - REACH, stop)
    history = {
        "located_transactions": extra.located(events_of(past)),
        "located_chargebacks": labels_of(past),
        "customers": extra.profiles(),
    }
    frame = enriched_features.get_features_for_events(extra.located(events_of(rows)), history=history)
    parts = split(rows, protocol)
    truth = rows["is_fraud"].to_numpy(zero_copy_only=False)
    return Weeks(frame.to_numpy(), frame.feature_names, truth, parts.train, parts.test)


def columns_of(group: str) -> list[str]:
    """The features of one of `GROUPS`, as frames name them."""
    return [f"{view.name}__{name}" for view in GROUPS[group] for name in view.feature_types]


def run_enriched(console: Console, world: World) -> int:
    """Choose settings on earlier weeks, then compare in the published test week; the process's exit code."""
    started = perf_counter()
    extra = Enrichment(world.config)
    write_profiles(extra.profiles(), world.folder)
    choosing = weeks_of(world, extra, CHOOSING)
    tried = {name: choosing.score(settings).average_precision for name, settings in SETTINGS.items()}
    chosen = max(tried, key=tried.__getitem__)
    for name, precision in tried.items():
        console.print(f"two weeks earlier, {name}: average precision {precision:.3f}", highlight=False)
    weeks = weeks_of(world, extra, world.protocol)
    published = weeks.only(columns_of("published")).score(PUBLISHED_SETTINGS)
    enriched = {name: weeks.score(SETTINGS[name]) for name in dict.fromkeys(("published settings", chosen))}
    console.print(render_grid(_grid(published, enriched, columns=len(weeks.names))))
    best = max(row.average_precision for row in PUBLISHED_TABLE.values())
    gain = enriched[chosen].average_precision - best
    console.print(
        f"Average precision {enriched[chosen].average_precision:.3f} with {chosen!r}, chosen two weeks earlier: "
        f"{gain:+.3f} against the published best, {best:.3f}.",
        highlight=False,
    )
    console.print(render_grid(group_table(weeks, choosing)))
    console.print(
        "Gain: average precision with the published features and the group, less that of the published alone. Loss: that of "
        "all, less that of all but the group. Test week (two weeks earlier); trees by histogram, ten times as quick. What "
        "differs by .01 between the weeks is noise.",
        highlight=False,
    )
    console.print(
        f"Done in {perf_counter() - started:.0f} s. Next: less examples/fraud/enriched_definitions.py",
        highlight=False,
    )
    return 0


def group_table(test: Weeks, earlier: Weeks) -> Grid:
    """What each group of features gives, in two test weeks."""
    found = [group_effects(weeks) for weeks in (test, earlier)]
    rows = tuple(
        (group, str(len(columns_of(group))), *(f"{a:+.3f} ({b:+.3f})" for a, b in zip(*effects, strict=True)))
        for group in found[0]
        for effects in [[week[group] for week in found]]
    )
    return Grid(("group of features", "features", "gain by itself", "loss without"), rows)


def group_effects(weeks: Weeks) -> dict[str, tuple[float, float]]:
    """For each group but the published: what it adds to the published, and what all others lack without it."""

    def precision(names: Sequence[str]) -> float:
        return weeks.only(names).score(QUICK_SETTINGS).average_precision

    published = columns_of("published")
    few, all_ = precision(published), precision(weeks.names)
    effects = {}
    for group in GROUPS:
        if group != "published":
            own = columns_of(group)
            others = [name for name in weeks.names if name not in own]
            effects[group] = precision([*published, *own]) - few, all_ - precision(others)
    return effects


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
    return Grid(("the test week", "features", "AUC ROC", "average precision"), tuple(rows))
