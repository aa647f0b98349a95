"""Test, then learn of the truth, for detectors of anomalies: their scores say how rare an event is, not how likely something is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.monitoring.prequential import BINS, Prequential, Quality, edges_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.definitions.policies import CostMatrix

FloatArray = npt.NDArray[np.float64]


class PrequentialAnomalies(Prequential):
    """As `Prequential`, with how often each threshold was reached and how even scores are, for which no label is needed.

    What follows from scores as probabilities of a positive, calibration and estimates, is not there.

    Examples
    --------
    >>> quality = PrequentialAnomalies({"alarm": 0.9})
    >>> quality.decided(100, np.linspace(0.005, 0.995, 100))
    >>> now = quality.summary()
    >>> now.alerts, now.pending, now.unevenness < 0.02, now.average_precision
    ((10,), 100, True, None)
    """

    def __init__(
        self,
        thresholds: Mapping[str, float] | None = None,
        *,
        costs: CostMatrix | None = None,
        bins: int = BINS,
    ) -> None:
        super().__init__(thresholds, costs=costs, bins=bins)
        self._alerts = np.zeros(len(self._thresholds), np.int64)

    def decided(self, count: int, scores: FloatArray | None = None, limits: FloatArray | None = None) -> None:
        """Count decisions and their alarms."""
        super().decided(count, scores, limits)
        if scores is not None:
            self._alerts += (scores[:, None] >= (self._thresholds if limits is None else limits)).sum(axis=0)

    def merge(self, other: PrequentialAnomalies) -> None:  # type: ignore[override] # cells of one board are of one kind
        """Count what the other has counted."""
        super().merge(other)
        self._alerts += other._alerts

    def estimate(self, before: Prequential | None = None) -> Any:
        """There is none: a rare event need not be a fault."""

    def summary(self) -> Quality:
        """The figures so far."""
        return replace(
            super().summary(),
            log_loss=None,
            brier=None,
            calibration_error=None,
            calibration=(),
            alerts=tuple(self._alerts.tolist()),
            unevenness=self._unevenness(),
        )

    def _unevenness(self) -> float | None:
        """See `penstock.models.evaluation_anomaly.unevenness`; of scores rounded to bins."""
        total = int(self._scored.sum())
        if not total:
            return None
        ranks = np.cumsum(self._scored) / total
        return float(np.max(np.abs(ranks - edges_of(self._bins))))
