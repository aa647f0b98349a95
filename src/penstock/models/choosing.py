"""Choosing thresholds when a model is trained: the protocol of the training itself, one test period earlier.

```
  [ fit ) gap [ validation )                      the same estimator, to choose thresholds
       [      train         ) gap [ test )        the version that is registered
```

Validation ends where training ends, so its labels are known when training begins and no row of the test takes part. The model that
is validated has seen none of its rows, nor labels that were not known by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from penstock.core.errors import ModelError
from penstock.core.time import from_us, to_us
from penstock.models.costs import row_costs
from penstock.models.thresholds import ChosenThreshold, Validation, Wanted, choose_thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.models.split import Split
    from penstock.models.training import TrainingData, TrainingSpec

FitAndScore = Callable[["NDArray[np.int64]", "NDArray[np.int64]"], "NDArray[np.float64]"]
"""Rows to fit on and rows to score, both as indices; the scores."""


def choose_by_cost(
    spec: TrainingSpec, data: TrainingData, split: Split, fit_and_score: FitAndScore
) -> dict[str, ChosenThreshold]:
    """The thresholds of the actions of ``spec.chosen``; empty where there are none.

    Raises
    ------
    ModelError
        When there are no rows before the validation period to fit on, or one class only.
    """
    if not spec.chosen:
        return {}
    start_us = split.train_end_us - min(to_us(spec.split.test), to_us(spec.split.train))
    fit_end_us = start_us - to_us(spec.split.delay)
    times, labelled = data.times_us, ~np.isnan(data.labels)
    known = np.zeros(len(times), np.int64) if data.known_at_us is None else data.known_at_us
    weights = np.ones(len(times)) if data.weights is None else data.weights
    fitted = np.flatnonzero(
        labelled
        & (weights > 0)
        & (times >= fit_end_us - to_us(spec.split.train))
        & (times < fit_end_us)
        & (known <= start_us)
    )
    if not len(fitted):
        raise ModelError(
            f"Model {spec.name!r}: thresholds are to be chosen by cost, and no labelled row is of before "
            f"{from_us(fit_end_us):%Y-%m-%d %H:%M} to fit on for that. Start the split later, feed earlier events, or write the "
            "thresholds as numbers."
        )
    rows = np.flatnonzero((times >= start_us) & (times < split.train_end_us))
    in_time = known[rows] <= split.test_start_us
    validation = Validation(
        scores=fit_and_score(fitted, rows),
        labels=np.where(in_time, data.labels[rows], np.nan),
        weights=weights[rows],
        start_us=start_us,
        end_us=split.train_end_us,
    )
    columns = {name: column[rows] for name, column in data.columns.items()}
    steps = sorted(spec.thresholds.items(), key=lambda item: item[1])
    wanted = {
        action: Wanted(action, row_costs(one.costs, columns, len(rows)), one.until, one.alerts_per_day)
        for action, one in spec.chosen
        if one.costs is not None
    }
    return choose_thresholds(steps, wanted, validation)
