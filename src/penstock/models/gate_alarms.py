"""What a gate can say of a detector of anomalies where nobody has labelled anything: how often it alarms, and how even its scores are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.models.evaluation_anomaly import unevenness
from penstock.models.gate_rules import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from penstock.definitions.gates import Gate

MOST_UNEVEN = 0.25
"""Further from even than this, scores no longer say how rare an event is, and thresholds mean nothing."""


def unlabelled_rules(
    gate: Gate, scores: Sequence[NDArray[np.float64]], alarms: Sequence[NDArray[np.bool_]]
) -> list[Rule]:
    """The rules for rows that are all without label: the challenger's scores and alarms first, then the champion's."""
    share = float(alarms[0].mean())
    numbers: dict[str, Any] = {"challenger": share, "most": gate.max_false_positive_rate}
    if len(alarms) > 1:
        numbers |= {"champion": float(alarms[1].mean()), "agree": float((alarms[0] == alarms[1]).mean())}
    text = f"{share:.2%} of all events; at most {gate.max_false_positive_rate:.2%} is allowed"
    alerts = Rule("alerts", "pass" if share <= gate.max_false_positive_rate else "fail", text, numbers)
    distance = unevenness(scores[0])
    text = f"{distance:.3f} from evenly spread; at most {MOST_UNEVEN:g} is allowed"
    spread = {"challenger": distance, "most": MOST_UNEVEN}
    rules = [alerts, Rule("scores", "pass" if distance <= MOST_UNEVEN else "fail", text, spread)]
    if len(scores[0]) >= gate.min_rows:
        return rules
    text = f"there are {len(scores[0]):,} rows; at least {gate.min_rows:,} are needed to say"
    return [Rule(rule.name, "inconclusive", text, rule.numbers) for rule in rules]
