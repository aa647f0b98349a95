"""Thresholds of detectors that keep a budget of alerts: their scores are probabilities, so the rate of events says which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.time import DAY_US
from penstock.definitions.policies import AlertBudget

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from penstock.definitions.policies import Policy


def thresholds_by_budget(policy: Policy | None, times_us: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """By action with an `AlertBudget` its threshold and what that rests on, as JSON values.

    Parameters
    ----------
    times_us
        Times of the events of the training period, int64 microseconds.

    Examples
    --------
    >>> import numpy as np
    >>> from penstock.definitions.policies import Policy
    >>> policy = Policy("watch", actions={"call": AlertBudget(2)})
    >>> hourly = np.arange(24 * 10 + 1) * (DAY_US // 24)
    >>> round(thresholds_by_budget(policy, hourly)["call"]["threshold"], 4)
    0.917
    """
    budgets = [] if policy is None else [(a, one) for a, one in policy.chosen if isinstance(one, AlertBudget)]
    if not budgets:
        return {}
    days = max(int(times_us.max()) - int(times_us.min()), 1) / DAY_US
    per_day = len(times_us) / days
    return {
        action: {
            "action": action,
            "threshold": max(1.0 - one.alerts_per_day / per_day, 0.0),
            "budget": one.alerts_per_day,
            "events_per_day": per_day,
        }
        for action, one in budgets
    }
