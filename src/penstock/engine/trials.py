"""Trials of a service's features over any rows: what must hold for every definition, tried on those of a project.

- **Later rows do not matter.** Whatever is later than *t* is deleted; no value at *t* may change. Tried in the order of
  event time, and with rows that arrive late, as far as every view allows.
- **Other keys do not matter.** Rows of new keys, and of the future, are added; no value may change.
- **Batches do not matter.** Rows one by one give what they give together.
- **The same again.** The same rows give the same values a second time.
- **No row is ahead of its event.** What a view calls a row's time is not later than the event's own.

A function that remembers rows, looks at its neighbours, reads a clock or draws random numbers breaks one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from penstock.core.errors import PlanError, TransformError
from penstock.core.time import format_duration, from_us
from penstock.engine.assembly import FeatureRows, concat_features
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import FloatMatrix, KernelRows, Rows
from penstock.engine.times import row_times
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, Text, concat
from penstock.kernel.state import Op
from penstock.plan.nodes import Plan, ServiceNode

CUTS = 5
ONE_BY_ONE = 300
_RTOL = 1e-9
"""Libraries may round a column other than a row in the last bits; what leaks shows far above that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of a trial: `passed` is None where it could not be tried; `compared` counts values."""

    service: str
    name: str
    passed: bool | None
    detail: str
    compared: int = 0


def try_service(plan: Plan, service: ServiceNode, rows: Mapping[str, Rows]) -> list[Trial]:
    """Every trial of one service.

    Parameters
    ----------
    plan
        A plan that has the service.
    rows
        By source the rows to try it on; those of label sources are joined to their events, as views see them.
    """
    trying = _Trying(plan, service, rows)
    return [
        trying.run("later events", trying.later_rows),
        trying.run("other keys", trying.other_keys),
        trying.run("one by one", trying.one_by_one),
        trying.run("same again", trying.same_again),
        trying.run("row times", trying.row_times),
    ]


class _Trying:
    """One service, its rows in the order of event time, and their features."""

    def __init__(self, plan: Plan, service: ServiceNode, rows: Mapping[str, Rows]) -> None:
        views = {lookup.view for lookup in service.lookups}
        needed = {service.source} | {plan.views[i].source for i in views}
        self._plan = _only(plan, service)
        self._service = self._plan.services[service.name]
        self._columns = {name: one.columns for name, one in rows.items() if name in needed}
        self._times = {
            name: row_times(columns, plan.sources[name]) for name, columns in self._columns.items()
        }
        self._in_time = _ranked(self._times, self._comes_first())

    def run(self, name: str, trial: Callable[[], tuple[str | None, int, str]]) -> Trial:
        """One trial, whose failure is a `PlanError` of the engine too: what it found differing, how much, a note."""
        if not self._columns.get(self._service.source, Columns(0, {})).length:
            detail = f"there are no events of {self._service.source}"
            return Trial(service=self._service.name, name=name, passed=None, detail=detail)
        try:
            wrong, compared, note = trial()
        except PlanError as error:
            wrong, compared, note = str(error), 0, ""
        passed = None if wrong is None and not compared else wrong is None
        return Trial(
            service=self._service.name, name=name, passed=passed, detail=wrong or note, compared=compared
        )

    def later_rows(self) -> tuple[str | None, int, str]:
        compared = 0
        jitter_us = min((view.program.allowed_lateness_us for view in self._plan.views), default=0)
        for order, late in ((self._in_time, ""), (self._late(jitter_us), "with late arrivals, ")):
            whole = self._features(order)
            for cut in self._cuts():
                keep = {name: np.flatnonzero(times <= cut) for name, times in self._times.items()}
                part = self._features(order, keep)
                own = keep[self._service.source]
                wrong = self._differing(whole.take(own), part, own)
                if wrong:
                    return f"{late}deleting all after {_moment(cut)} changes {wrong}", compared, ""
                compared += part.values.size
        if not compared:
            return None, 0, "the events have too few times"
        note = f"late by up to {format_duration(jitter_us)}" if jitter_us else "no view allows late rows"
        return None, compared, f"{CUTS} cuts, in order and {note}"

    def other_keys(self) -> tuple[str | None, int, str]:
        added = {name: self._foreign(name, columns) for name, columns in self._columns.items()}
        if not all(columns.length for columns in added.values()):
            return None, 0, "the keys are computed or have too few values: no other keys can be made"
        rows = sum(times.size for times in self._times.values())
        if any(view.program.max_keys < 2 * rows for view in self._plan.views):
            return None, 0, "a view holds so few keys that others push them out"
        columns = {name: concat([self._columns[name], added[name]]) for name in self._columns}
        times = {name: row_times(one, self._plan.sources[name]) for name, one in columns.items()}
        both = self._made(columns, _ranked(times, self._comes_first()))
        own = np.arange(self._columns[self._service.source].length)
        whole = self._features(self._in_time)
        wrong = self._differing(whole, both.take(own), own)
        count = sum(one.length for one in added.values())
        return (
            (f"adding rows of other keys changes {wrong}" if wrong else None),
            whole.values.size,
            f"{count} rows",
        )

    def one_by_one(self) -> tuple[str | None, int, str]:
        first = {name: np.flatnonzero(order < ONE_BY_ONE) for name, order in self._in_time.items()}
        first = {name: at for name, at in first.items() if len(at)}
        own = first.get(self._service.source, np.zeros(0, np.int64))
        if not len(own):
            return None, 0, f"no event is among the first {ONE_BY_ONE} rows"
        state = FeatureState(self._plan)
        steps = sorted(
            (int(self._in_time[name][i]), name, i) for name, at in first.items() for i in at.tolist()
        )
        parts: dict[int, FeatureRows] = {}
        for position, name, i in steps:
            one = {name: Rows(self._columns[name].take(np.array([i])), np.array([position]))}
            made = state.advance(one, services=[self._service], skip_failing=True)
            if self._service.name in made:
                parts[i] = made[self._service.name]
        single = concat_features([parts[i] for i in own.tolist()])
        wrong = self._differing(self._features(self._in_time, first), single, own)
        return (
            (f"among others and alone differ: {wrong}" if wrong else None),
            single.values.size,
            f"{len(own)} events",
        )

    def same_again(self) -> tuple[str | None, int, str]:
        first, second = self._features(self._in_time), self._features(self._in_time)
        wrong = self._differing(first, second, np.arange(len(first.values)))
        return (f"a second run differs: {wrong}" if wrong else None), first.values.size, ""

    def row_times(self) -> tuple[str | None, int, str]:
        state, compared = FeatureState(self._plan), 0
        for name, columns in self._columns.items():
            if self._plan.sources[name].label_of is not None:
                continue
            for i, made in self._prepared(state, name, columns).items():
                entering = np.flatnonzero(made.ops == Op.APPLY)
                ahead = made.times[entering] - self._times[name][made.positions[entering]]
                compared += len(entering)
                if len(ahead) and ahead.max() > 0:
                    by = format_duration(int(ahead.max()))
                    what = f"{int((ahead > 0).sum())} of {len(ahead)} rows of {self._plan.views[i].name!r}"
                    return (
                        f"{what} have a time up to {by} after their event: it would see the future",
                        compared,
                        "",
                    )
        return None, compared, ""

    def _comes_first(self) -> dict[str, bool]:
        return {name: self._plan.sources[name].comes_first for name in self._columns}

    def _late(self, jitter_us: int) -> dict[str, IntArray]:
        """Places in an order of arrival in which no row is later than `jitter_us`; always the same."""
        draw = np.random.default_rng(0)
        arrival = {n: t + draw.integers(0, jitter_us + 1, len(t)) for n, t in self._times.items()}
        return _ranked(arrival, self._comes_first())

    def _cuts(self) -> list[int]:
        times = np.unique(self._times[self._service.source])
        return (
            [int(times[len(times) * (i + 1) // (CUTS + 1)]) for i in range(CUTS)] if len(times) > CUTS else []
        )

    def _features(
        self, order: Mapping[str, IntArray], keep: Mapping[str, IntArray] | None = None
    ) -> FeatureRows:
        """The features of the service's events among the rows `keep` (default: all), in the events' own order."""
        columns, places = dict(self._columns), dict(order)
        if keep is not None:
            columns = {name: self._columns[name].take(at) for name, at in keep.items()}
            places = {name: order[name][at] for name, at in keep.items()}
        return self._made(columns, places)

    def _made(self, columns: Mapping[str, Columns], places: Mapping[str, IntArray]) -> FeatureRows:
        sorts = {name: np.argsort(places[name]) for name in columns}
        batch = {n: Rows(c.take(sorts[n]), places[n][sorts[n]]) for n, c in columns.items() if c.length}
        state = FeatureState(self._plan)
        made = state.advance(batch, services=[self._service], skip_failing=True)[self._service.name]
        return made.take(np.argsort(sorts[self._service.source]))

    def _foreign(self, name: str, columns: Columns) -> Columns:
        """Copies of the rows under keys that no row has; none where such keys cannot be made."""
        names = {f.name for view in self._plan.views for f in view.keys if view.source == name}
        names |= {k for one in self._service.lookups for k in one.key_columns if name == self._service.source}
        made = {key: _other(columns[key]) for key in names if key in columns}
        if not made or any(one is None for one in made.values()):
            return Columns(0, {})
        changed = columns.with_columns({key: one for key, one in made.items() if one is not None})
        state = FeatureState(self._plan)
        before = self._prepared(state, name, columns)
        after = self._prepared(state, name, changed)
        for i in before:
            if _keys(before[i]) & _keys(after[i]):
                return Columns(0, {})
        return changed

    def _prepared(self, state: FeatureState, name: str, columns: Columns) -> dict[int, KernelRows]:
        """What the views' functions make of the rows; `positions` are the rows' numbers."""
        everything = np.arange(columns.length)
        try:
            return state.prepare(name, columns, everything)
        except TransformError:
            return state.prepare_each(name, columns, everything)[0]

    def _differing(self, left: FeatureRows, right: FeatureRows, rows: IntArray) -> str | None:
        """What is the first value that differs, if any: of which event, and how."""
        wrong = _unlike(left.values, right.values)
        for at, texts in left.columns.items():
            other = right.columns[at]
            if isinstance(texts, Text) and isinstance(other, Text):
                pairs = zip(texts.to_strings(), other.to_strings(), strict=True)
                wrong[:, at] |= np.fromiter((a != b for a, b in pairs), np.bool_, len(texts))
        if not wrong.any():
            return None
        row, column = np.argwhere(wrong)[0].tolist()
        values = [
            repr(found.to_strings()[row])
            if isinstance(found := one.columns.get(column), Text)
            else f"{one.values[row, column]:.9g}"
            for one in (left, right)
        ]
        when = _moment(int(self._times[self._service.source][rows[row]]))
        others = int(wrong.sum()) - 1
        return (
            f"{self._service.feature_names[column]} of the event at {when} from {values[0]} to {values[1]}"
            + (f", and {others} more values" if others else "")
        )


def _only(plan: Plan, service: ServiceNode) -> Plan:
    """The plan with this service alone."""
    used = sorted({lookup.view for lookup in service.lookups})
    renumbered = replace(
        service,
        lookups=tuple(replace(lookup, view=used.index(lookup.view)) for lookup in service.lookups),
    )
    return replace(
        plan, views=tuple(plan.views[i] for i in used), services={service.name: renumbered}, endpoints={}
    )


def _ranked(times: Mapping[str, IntArray], comes_first: Mapping[str, bool]) -> dict[str, IntArray]:
    """A place in one order for every row: by time, labels and batch rows before events, then row order."""
    if not times:
        return {}
    rank = np.concatenate([np.full(len(one), not comes_first[name]) for name, one in times.items()])
    order = np.lexsort((rank, np.concatenate(list(times.values()))))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    bounds = np.cumsum([0, *map(len, times.values())])
    return {name: places[a:b] for name, a, b in zip(times, bounds[:-1], bounds[1:], strict=True)}


def _unlike(left: FloatMatrix, right: FloatMatrix) -> BoolArray:
    out: BoolArray = ~np.isclose(left, right, rtol=_RTOL, atol=0.0, equal_nan=True)
    return out


def _other(column: Column) -> Column | None:
    """Values that the column does not have; None where its type has too few."""
    if isinstance(column, Text):
        return Text.from_strings([None if text is None else f"{text}~other" for text in column.to_strings()])
    if column.values.dtype.kind != "i":
        return None
    least, most = int(column.values.min(initial=0)), int(column.values.max(initial=0))
    return Numeric(column.values + (most - least + 1), column.valid)


def _keys(rows: KernelRows) -> set[bytes]:
    """The keys of those rows that have one."""
    keys = rows.keys
    there = np.flatnonzero(rows.ops != Op.NONE).tolist()
    return {keys.data[keys.offsets[i] : keys.offsets[i + 1]].tobytes() for i in there}


def _moment(us: int) -> str:
    return from_us(us).isoformat()
