"""Money of live decisions where costs of either side name columns: against a direct evaluation, however it was counted."""

import numpy as np
import pytest

from penstock.definitions.policies import CostMatrix
from penstock.models.evaluation import evaluate_binary
from penstock.monitoring.prequential import Prequential

COSTS = CostMatrix(false_positive="margin", false_negative="amount", alert=2.5)
THRESHOLDS = {"review": 0.4, "block": 0.8}


def test_costs_of_columns_are_those_of_a_direct_evaluation():
    draw = np.random.default_rng(4)
    scores, labels = draw.random(3000), (draw.random(3000) < 0.2).astype(float)
    amounts, margins = draw.gamma(2, 40, 3000), draw.gamma(2, 5, 3000)
    first, second = (Prequential(THRESHOLDS, costs=COSTS) for _ in range(2))
    first.add(scores[:1000], labels[:1000], amounts[:1000], margins[:1000])
    turned = 1 - labels[1000:]
    second.add(scores[1000:], turned, amounts[1000:], margins[1000:])
    second.replace(scores[1000:], turned, labels[1000:], amounts[1000:], margins[1000:])
    first.merge(second)
    expected = evaluate_binary(
        labels, scores, thresholds=THRESHOLDS, costs=COSTS, columns={"amount": amounts, "margin": margins}
    )
    found = first.summary()
    assert found.idle_cost == pytest.approx(expected.idle_cost)
    assert [point.cost for point in found.points] == pytest.approx([one.cost for one in expected.thresholds])
