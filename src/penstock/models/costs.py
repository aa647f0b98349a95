"""What decisions cost, row by row: a cost matrix with its columns filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penstock.core.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.definitions.policies import CostMatrix


@dataclass(frozen=True, slots=True, eq=False)
class RowCosts:
    """What each row costs: acted against although good, missed although bad (float64[n] each), and each action besides."""

    false_alarm: NDArray[np.float64]
    missed: NDArray[np.float64]
    alert: float = 0.0

    def each(self, acted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What each row costs, float64[n], if those of `acted` are acted on and `truth` is what happened.

        >>> costs = RowCosts(np.array([5.0, 5.0]), np.array([0.0, 80.0]), alert=1.0)
        >>> costs.each(np.array([True, False]), np.array([False, True]))
        array([ 6., 80.])
        """
        good = np.where(truth, 0.0, self.false_alarm)
        return np.where(acted, self.alert + good, np.where(truth, self.missed, 0.0))

    def total(self, acted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
        """The cost of acting on `acted` where `truth` is what happened.

        >>> costs = RowCosts(np.array([5.0, 5.0]), np.array([0.0, 80.0]), alert=1.0)
        >>> costs.total(np.array([True, False]), np.array([False, True]))
        86.0
        """
        alarms = float(self.false_alarm[acted & ~truth].sum()) + self.alert * int(np.count_nonzero(acted))
        return alarms + float(self.missed[~acted & truth].sum())


def row_costs(costs: CostMatrix, columns: Mapping[str, NDArray[np.float64]], rows: int) -> RowCosts:
    """The costs of `rows` events with these columns; a null amount costs nothing.

    Raises
    ------
    ModelError
        When a column that `costs` names is not among `columns`.
    """
    false_alarm, missed = (
        _filled(name, getattr(costs, name), columns, rows) for name in ("false_positive", "false_negative")
    )
    return RowCosts(false_alarm, missed, float(costs.alert))


def _filled(
    name: str, each: float | str, columns: Mapping[str, NDArray[np.float64]], rows: int
) -> NDArray[np.float64]:
    if not isinstance(each, str):
        return np.full(rows, float(each))
    if each not in columns:
        raise ModelError(
            f"CostMatrix: {name} names the column {each!r}; the events have "
            f"{', '.join(sorted(columns)) or 'no numeric columns'}. Name one of these, or give a number."
        )
    return np.nan_to_num(np.asarray(columns[each], np.float64), nan=0.0)
