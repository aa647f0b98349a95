"""Quality of an endpoint by group and period, live or from the store: the same figures either way.

Groups are all decisions, a model version, an arm, or a value of a segment. Each group has a total and one cell a slot of
event time. A window is a run of slots whose labels are mature: its newest event is at least `delay` older than the newest
event seen. What is younger has an estimate only. Slots that no window can need any more are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.core.time import DAY_US
from penstock.models.ranking import CardPrecision
from penstock.models.segments import OTHER, Coded
from penstock.monitoring.card_days import CardDays
from penstock.monitoring.estimates import Estimate
from penstock.monitoring.prequential import Prequential, Quality
from penstock.monitoring.regression import PrequentialRegression, RegressionQuality

if TYPE_CHECKING:
    from penstock.models.evaluation_anomaly import AlarmReport

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Cell = Prequential | PrequentialRegression


class Group(NamedTuple):
    """What decisions have in common: ``("version", "fraud:3")``, ``("country", "DE")``; all of them: ``("all", "")``."""

    dimension: str
    value: str


ALL = Group("all", "")


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Decisions as the board counts them, shape [n] each.

    Attributes
    ----------
    times_us
        Event times.
    scores
        NaN where there was none.
    groups
        By dimension, the value of each row.
    amounts
        What missing each would cost, where costs name a column.
    cards
        The entity of each, hashed; None where there is none.
    alarm_amounts
        What acting on each would cost if it is good, where costs name a column.
    limits
        float64[n, actions]: the thresholds by which each is judged; None: all by those of the cells.
    """

    times_us: IntArray
    scores: FloatArray
    groups: Mapping[str, Coded]
    amounts: FloatArray | None = None
    cards: npt.NDArray[np.uint64] | None = None
    alarm_amounts: FloatArray | None = None
    limits: FloatArray | None = None

    def take(self, rows: npt.NDArray[Any]) -> Scored:
        """The decisions at these rows."""
        return Scored(
            self.times_us[rows],
            self.scores[rows],
            {name: Coded(coded.codes[rows], coded.names) for name, coded in self.groups.items()},
            None if self.amounts is None else self.amounts[rows],
            None if self.cards is None else self.cards[rows],
            None if self.alarm_amounts is None else self.alarm_amounts[rows],
            None if self.limits is None else self.limits[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """How event time is cut: slots, windows (ascending multiples of a slot), and how long labels take."""

    slot_us: int
    windows_us: tuple[int, ...]
    delay_us: int

    @property
    def known_us(self) -> int:
        """How far before a window its scores are calibrated."""
        return self.delay_us + self.windows_us[-1]

    @property
    def kept_us(self) -> int:
        """How far back slots are needed: for the longest window, and to calibrate scores before it."""
        return 2 * (self.known_us + self.slot_us)


@dataclass(frozen=True, slots=True)
class Window:
    """Quality over events in ``[start_us, end_us)``.

    `quality` is the truth as far as it is known, `estimate` what could be expected before labels came; `estimate` is None
    for a regression. `mature` says whether all labels have had their time. `alarms` is what each action of a detector of anomalies
    came to, where decisions were kept to say.
    """

    start_us: int
    end_us: int
    mature: bool
    quality: Quality | RegressionQuality
    estimate: Estimate | None
    card_precision: CardPrecision | None = None
    alarms: tuple[AlarmReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """Quality over the window that ends at `end_us`, one of a row of such."""

    end_us: int
    mature: bool
    quality: Quality | RegressionQuality


@dataclass(slots=True)
class _Cells:
    """What is kept of a group."""

    total: Cell
    slots: dict[int, Cell] = field(default_factory=dict)
    ranking: CardDays | None = None


class Board:
    """Counts decisions and labels by group and slot.

    Parameters
    ----------
    make_total, make_slot
        Make an empty cell.
    periods
        How event time is cut.
    max_values
        Most values of a dimension that are told apart, where none were chosen.
    top_k
        For Card Precision.
    keep_all
        Whether every slot is kept, however old.
    told
        By dimension the values that are told apart; of other dimensions those that come first are.

    Examples
    --------
    >>> board = Board(Prequential, Prequential, periods=Periods(slot_us=10, windows_us=(20,), delay_us=10))
    >>> rows = Scored(np.array([5, 15, 25, 35]), np.array([0.1, 0.9, 0.2, 0.8]), {})
    >>> board.decide(rows)
    >>> board.learn(rows.take(np.array([0, 1])), np.array([0.0, 1.0]))
    >>> window, open_ = board.windows()
    >>> window.start_us, window.end_us, window.quality.labelled, window.quality.pending
    (0, 20, 2, 0)
    >>> open_.start_us, open_.mature, open_.quality.pending
    (20, False, 2)
    """

    def __init__(
        self,
        make_total: Callable[[], Cell],
        make_slot: Callable[[], Cell],
        *,
        periods: Periods,
        max_values: int = 20,
        top_k: int = 100,
        keep_all: bool = False,
        told: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._make_total, self._make_slot = make_total, make_slot
        self.periods = periods
        self._max_values, self._top_k, self._keep_all = max_values, top_k, keep_all
        self._known: dict[str, set[str]] = {name: set(values) for name, values in (told or {}).items()}
        self._chosen = frozenset(self._known)
        self._groups: dict[Group, _Cells] = {ALL: self._new()}
        self.newest_us: int | None = None
        """The newest event time decided."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups, by dimension and value."""
        return tuple(sorted(self._groups))

    def total(self, group: Group = ALL) -> Cell:
        """What was counted of a group since the beginning."""
        return self._groups[group].total

    def decide(self, rows: Scored) -> None:
        """Count decisions."""
        if not len(rows.scores):
            return
        self.newest_us = max(int(rows.times_us.max()), self.newest_us or 0)
        for cells, mine in self._parts(rows, new=True):
            cells.total.decided(len(mine.scores), mine.scores, mine.limits)
            for slot, part, _ in self._by_slot(mine):
                if slot not in cells.slots:
                    cells.slots[slot] = self._make_slot()
                cells.slots[slot].decided(len(part.scores), part.scores, part.limits)
        self._forget()

    def learn(self, rows: Scored, labels: FloatArray) -> None:
        """Count the first labels of decisions, float64[n]."""
        for cells, mine, chosen in self._with_rows(rows):
            truth = labels[chosen]
            cells.total.add(mine.scores, truth, mine.amounts, mine.alarm_amounts, limits=mine.limits)
            for slot, part, at in self._by_slot(mine):
                if slot in cells.slots:
                    cells.slots[slot].add(
                        part.scores, truth[at], part.amounts, part.alarm_amounts, limits=part.limits
                    )
            if cells.ranking is not None and mine.cards is not None:
                cells.ranking.add(mine.times_us // DAY_US, mine.cards, scores=mine.scores, positive=truth > 0)

    def relearn(self, rows: Scored, before: FloatArray, after: FloatArray) -> None:
        """Correct labels of decisions."""
        for cells, mine, chosen in self._with_rows(rows):
            was, now = before[chosen], after[chosen]
            cells.total.replace(mine.scores, was, now, mine.amounts, mine.alarm_amounts, limits=mine.limits)
            for slot, part, at in self._by_slot(mine):
                if slot in cells.slots:
                    cells.slots[slot].replace(
                        part.scores, was[at], now[at], part.amounts, part.alarm_amounts, limits=part.limits
                    )
            if cells.ranking is not None and mine.cards is not None:
                known = ~np.isnan(mine.scores)
                cells.ranking.replace(
                    mine.times_us // DAY_US, mine.cards, before=known & (was > 0), after=known & (now > 0)
                )

    def windows(self, group: Group = ALL) -> list[Window]:
        """The newest mature window of each length, then what is younger than that."""
        if self.newest_us is None:
            return []
        slot, stop = self.periods.slot_us, self._mature_stop
        found = [self._window(group, stop - length // slot, stop) for length in self.periods.windows_us]
        found.append(self._window(group, stop, self.newest_us // slot + 1))
        return found

    def days(self, group: Group = ALL) -> list[Window]:
        """Each day that has decisions, oldest first; the Card Precision of each is that of the day alone."""
        per_day = DAY_US // self.periods.slot_us
        days = sorted({slot // per_day for slot in self._groups[group].slots})
        return [self._window(group, day * per_day, (day + 1) * per_day) for day in days]

    def rolling(self, group: Group = ALL) -> list[Moment]:
        """The shortest window, ending with each day that the longest one holds and those since, oldest first."""
        if self.newest_us is None:
            return []
        slot, mature = self.periods.slot_us, self._mature_stop
        shortest, longest = (self.periods.windows_us[i] // slot for i in (0, -1))
        per_day = DAY_US // slot
        first = -(-(mature - longest + 1) // per_day) * per_day
        ends = sorted(
            {*range(first, self.newest_us // slot + 1, per_day), mature, self.newest_us // slot + 1}
        )
        cells = self._groups[group]
        return [
            Moment(end * slot, end <= mature, self._merged(cells, end - shortest, end).summary())
            for end in ends
            if end > mature - longest
        ]

    def unsettled(self, told: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        """Of these values those of dimensions in which others are told apart; not where every value is a group of its own."""
        return {
            name: values
            for name, values in told.items()
            if Group(name, OTHER) in self._groups and set(values) != self._known.get(name)
        }

    def told_apart(self, dimension: str, value: str) -> str:
        """The value of the group in which decisions with `value` are counted, if any was."""
        return self._value(dimension, value, new=False)

    @property
    def _mature_stop(self) -> int:
        assert self.newest_us is not None
        return (self.newest_us - self.periods.delay_us + 1) // self.periods.slot_us

    def _window(self, group: Group, first: int, stop: int) -> Window:
        cells, slot = self._groups[group], self.periods.slot_us
        truth = self._merged(cells, first, stop)
        delay = -(-self.periods.delay_us // slot)
        before = self._calibration(group, first - self.periods.known_us // slot, min(first, stop - delay))
        ranking = cells.ranking
        first_day, stop_day = -(-first * slot // DAY_US), stop * slot // DAY_US
        mature = stop <= self._mature_stop
        return Window(
            first * slot,
            stop * slot,
            mature=mature,
            quality=truth.summary(),
            estimate=truth.estimate(before),  # type: ignore[arg-type]
            card_precision=None if ranking is None or not mature else ranking.precision(first_day, stop_day),
        )

    def _calibration(self, group: Group, first: int, stop: int) -> Cell:
        """On what a group's scores are calibrated: its own labels; those of all for a segment that has too few."""
        own = self._merged(self._groups[group], first, stop)
        of_a_model = group.dimension in {"version", "arm"}  # whose scores mean what no other's do
        if of_a_model or not isinstance(own, Prequential) or own.chances() is not None:
            return own
        return self._merged(self._groups[ALL], first, stop)

    def _merged(self, cells: _Cells, first: int, stop: int) -> Cell:
        merged = self._make_slot()
        for slot, cell in cells.slots.items():
            if first <= slot < stop:
                merged.merge(cell)  # type: ignore[arg-type]
        return merged

    def _new(self) -> _Cells:
        longest = self.periods.windows_us[-1]
        ranking = CardDays(k=self._top_k, days=longest // DAY_US) if longest >= DAY_US else None
        return _Cells(self._make_total(), {}, ranking)

    def _parts(self, rows: Scored, *, new: bool) -> Iterator[tuple[_Cells, Scored]]:
        for cells, mine, _ in self._with_rows(rows, new=new):
            yield cells, mine

    def _with_rows(
        self, rows: Scored, *, new: bool = False
    ) -> Iterator[tuple[_Cells, Scored, npt.NDArray[Any]]]:
        """Each group that has some of `rows`: its cells, its rows, and which they are."""
        yield self._groups[ALL], rows, np.arange(len(rows.scores))
        for dimension, coded in rows.groups.items():
            wanted: dict[str, list[int]] = {}
            for code in _in_order(coded.codes):
                wanted.setdefault(self._value(dimension, coded.names[code], new=new), []).append(code)
            for value, codes in wanted.items():
                group = Group(dimension, value)
                if group not in self._groups:
                    self._groups[group] = self._new()
                chosen = np.flatnonzero(np.isin(coded.codes, codes))
                yield self._groups[group], rows.take(chosen), chosen

    def _value(self, dimension: str, value: str, *, new: bool) -> str:
        """`value`, if it is told apart: one of those that were chosen, or came while there was room."""
        known = self._known.setdefault(dimension, set())
        if new and dimension not in self._chosen and len(known) < self._max_values:
            known.add(value)
        return value if value in known else OTHER

    def _by_slot(self, rows: Scored) -> Iterator[tuple[int, Scored, npt.NDArray[Any]]]:
        """The rows of each slot that is still kept."""
        slots = rows.times_us // self.periods.slot_us
        for slot in np.unique(slots).tolist():
            if slot >= self._oldest:
                at = np.flatnonzero(slots == slot)
                yield slot, rows.take(at), at

    @property
    def _oldest(self) -> int:
        if self._keep_all or self.newest_us is None:
            return -(2**62)
        return (self.newest_us - self.periods.kept_us) // self.periods.slot_us

    def _forget(self) -> None:
        oldest = self._oldest
        for cells in self._groups.values():
            for slot in [slot for slot in cells.slots if slot < oldest]:
                del cells.slots[slot]
            if cells.ranking is not None and not self._keep_all:
                cells.ranking.forget(oldest * self.periods.slot_us // DAY_US)


def _in_order(codes: IntArray) -> list[int]:
    """The distinct codes in the order in which they come."""
    values, first = np.unique(codes, return_index=True)
    ordered: list[int] = values[np.argsort(first)].tolist()
    return ordered
