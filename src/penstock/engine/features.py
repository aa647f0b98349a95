"""The step of the features: rows in log order in, feature rows out, state moved on. Pure and deterministic.

One batch goes through four steps:

1. `FeatureState.prepare`: each view's function turns its source's rows into keys, times and lanes;
2. the rows of a view - its own, and the look-ups of other streams' events - are put in log order;
3. the kernel applies and emits them (`KeyedState.process`);
4. realtime views run on what was emitted, and everything is put in the order of the service (`assembly`).

Live events, replay, audit, backfill and training sets all come through here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from penstock.core.errors import TransformError
from penstock.engine.assembly import Assembler, FeatureRows, LookedUp
from penstock.engine.given import given_output
from penstock.engine.kernel_rows import KernelRows, Rows, ViewPreparer, asking_rows
from penstock.engine.view_states import KeyedState, new_state
from penstock.kernel.columns import Columns, IntArray
from penstock.kernel.jit import ByteArray
from penstock.kernel.state import Output
from penstock.kernel.step import TOO_LATE
from penstock.plan.nodes import Lookup, Plan, ServiceNode

_THREADED_ROWS = 1 << 16
"""From this many rows on, views are worked on side by side: the kernel lets go of the interpreter's lock."""

Emitted = dict[tuple[str, int], Output]


@dataclass(frozen=True, slots=True)
class _ViewRun:
    """What one view has to do for the services of a batch.

    `own` says that rows of its own source are in it; `owners` are the look-ups that those rows answer, `asked` those that
    ask, with their service: each named by (service, look-up).
    """

    index: int
    own: bool
    owners: tuple[tuple[str, int], ...]
    asked: tuple[tuple[tuple[str, int], ServiceNode, Lookup], ...]


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What batches with rows of the same sources come to: the same for each, so that it is resolved once."""

    views: tuple[_ViewRun, ...]
    services: tuple[tuple[ServiceNode, Assembler, tuple[tuple[str, int], ...]], ...]


class FeatureState:
    """The state of all of a plan's views: a deterministic fold of the log."""

    def __init__(self, plan: Plan, *, views: Sequence[KeyedState] | None = None) -> None:
        self.plan = plan
        self.views = [new_state(view) for view in plan.views] if views is None else list(views)
        self._preparers = [
            ViewPreparer(view, state) for view, state in zip(plan.views, self.views, strict=True)
        ]
        self._assemblers = {
            name: Assembler(plan, service, self.views) for name, service in plan.services.items()
        }
        self._schedules: dict[tuple[tuple[str, ...], tuple[str, ...]], _Schedule] = {}
        self.skipped_rows = 0
        """Rows that were left out of a view because its function failed on them."""
        self.touched: list[tuple[int, KernelRows]] | None = None
        """Where views' rows are noted, with the view's index, so that somebody may tell which keys changed; None: nowhere."""
        self._too_late_of = [0] * len(plan.views)
        # Rows of streams are counted where they are decided; of others nobody else would tell.
        self._tells = [plan.sources[view.source].comes_first for view in plan.views]
        self._preparers_of = {
            name: [
                (i, self._preparers[i])
                for i, view in enumerate(plan.views)
                if view.source == name and not view.given
            ]
            for name in plan.sources
        }

    @property
    def evicted_keys(self) -> int:
        """How many keys have left a view because it held its most, since the log began."""
        evicted = 0
        for view in self.views:
            evicted += view.evicted_keys
        return evicted

    @property
    def too_late(self) -> tuple[int, int]:
        """How many batch rows, and how many label rows, were too late to enter a view, since this state was made."""
        if not any(self._too_late_of):
            return 0, 0
        of_labels = [self.plan.sources[view.source].label_of is not None for view in self.plan.views]
        labels = sum(n for n, is_label in zip(self._too_late_of, of_labels, strict=True) if is_label)
        return sum(self._too_late_of) - labels, labels

    def prepare(self, source: str, columns: Columns, positions: IntArray) -> dict[int, KernelRows]:
        """Run the functions of all views over `source`: what each view's kernel gets.

        Changes no window; raises `TransformError` where a function fails.
        """
        rows = Rows(columns, positions)
        return {i: preparer.prepare(rows) for i, preparer in self._preparers_of[source]}

    def prepare_each(
        self, source: str, columns: Columns, positions: IntArray
    ) -> tuple[dict[int, KernelRows], dict[int, str]]:
        """`prepare` row by row: what passed, and for each row on which a function failed what went wrong."""
        passed: list[dict[int, KernelRows]] = []
        errors: dict[int, str] = {}
        for row in range(columns.length):
            try:
                at = np.array([row])
                passed.append(self.prepare(source, columns.take(at), positions[at]))
            except TransformError as error:
                errors[row] = str(error)
        if not passed:
            return {}, errors
        return {i: KernelRows.concat([one[i] for one in passed]) for i in passed[0]}, errors

    def advance(
        self,
        batch: Mapping[str, Rows],
        *,
        services: Sequence[ServiceNode],
        prepared: Mapping[int, KernelRows] | None = None,
        exact: bool = False,
        skip_failing: bool = False,
    ) -> dict[str, FeatureRows]:
        """Move the state over `batch` and return the rows of those `services` whose source is in it.

        Parameters
        ----------
        prepared
            What `prepare` made of some of the sources already.
        exact
            Also give integer features as integers.
        skip_failing
            Leave a row on which a view's function fails out of that view, and count it in `skipped_rows`, instead of
            raising `TransformError`.
        """
        schedule = self._schedule_of(batch, services)
        ready = {} if prepared is None else dict(prepared)
        for run in schedule.views:
            if run.own and run.index not in ready:
                rows = batch[self.plan.views[run.index].source]
                ready[run.index] = self._prepared(run.index, rows, skip_failing=skip_failing)
        emitted = self._run_views(schedule.views, ready, batch)
        return {
            service.name: assembler.rows(
                batch[service.source].columns, [emitted[lookup] for lookup in lookups], exact=exact
            )
            for service, assembler, lookups in schedule.services
        }

    def advance_whole(
        self, batch: Mapping[str, Rows], *, services: Sequence[ServiceNode], part_rows: int
    ) -> dict[str, list[FeatureRows]]:
        """`advance` over many rows at once, exactly, with the features in parts.

        Functions of users get `part_rows` rows at a time, for they may take many times the memory of their rows.
        """
        schedule = self._schedule_of(batch, services)
        ready = {
            run.index: self._preparers[run.index].prepare_in_parts(
                batch[self.plan.views[run.index].source], part_rows
            )
            for run in schedule.views
            if run.own
        }
        emitted = self._run_views(schedule.views, ready, batch)
        return {
            service.name: assembler.rows_in_parts(
                batch[service.source].columns, [emitted[lookup] for lookup in lookups], part_rows
            )
            for service, assembler, lookups in schedule.services
        }

    def _schedule_of(self, batch: Mapping[str, Rows], services: Sequence[ServiceNode]) -> _Schedule:
        key = tuple(batch), tuple([service.name for service in services])
        schedule = self._schedules.get(key)
        if schedule is None:
            schedule = self._schedules[key] = self._scheduled(batch, services)
        return schedule

    def _scheduled(self, sources: Collection[str], services: Sequence[ServiceNode]) -> _Schedule:
        wanted = [service for service in services if service.source in sources]
        runs = []
        for i, view in enumerate(self.plan.views):
            lookups = [
                ((service.name, j), service, lookup)
                for service in wanted
                for j, lookup in enumerate(service.lookups)
                if lookup.view == i
            ]
            owners = tuple(name for name, _, lookup in lookups if lookup.own and not view.given)
            asked = tuple(one for one in lookups if view.given or not one[2].own)
            own = view.source in sources and not view.given
            if own or lookups:
                runs.append(_ViewRun(i, own, owners, asked))
        parts = [
            (
                service,
                self._assemblers[service.name],
                tuple((service.name, j) for j in range(len(service.lookups))),
            )
            for service in wanted
        ]
        return _Schedule(tuple(runs), tuple(parts))

    def _run_views(
        self, runs: Sequence[_ViewRun], ready: Mapping[int, KernelRows], batch: Mapping[str, Rows]
    ) -> Emitted:
        emitted: Emitted = {}
        total = 0
        for rows in batch.values():
            total += rows.columns.length
        if len(runs) > 1 and total >= _THREADED_ROWS:
            with ThreadPoolExecutor(min(len(runs), os.cpu_count() or 1)) as threads:
                jobs = [threads.submit(self._run_view, run, ready.get(run.index), batch) for run in runs]
                for job in jobs:
                    emitted |= job.result()
        else:
            for run in runs:
                emitted.update(self._run_view(run, ready.get(run.index), batch))
        return emitted

    def look_up(self, service: ServiceNode, columns: Columns, time_field: str) -> tuple[LookedUp, IntArray]:
        """The features of `service` for keys and times alone, over the rows applied so far; changes no value.

        Also int64[n, look-ups]: the time of the newest row that each key has in each view.
        """
        assembler = self._assemblers.get(service.name)
        if assembler is None or assembler.service is not service:
            assembler = self._assemblers[service.name] = Assembler(self.plan, service, self.views)
        rows = Rows(columns, np.arange(columns.length))
        newest = np.empty((columns.length, len(service.lookups)), np.int64)
        outputs = []
        for j, lookup in enumerate(service.lookups):
            asking = asking_rows(self.plan.views[lookup.view], lookup.key_columns, time_field, rows)
            outputs.append(self._process(lookup.view, asking))
            newest[:, j] = self.views[lookup.view].newest(asking.keys)
        return assembler.looked_up(columns, outputs), newest

    def _prepared(self, index: int, rows: Rows, *, skip_failing: bool) -> KernelRows:
        try:
            return self._preparers[index].prepare(rows)
        except TransformError:
            if not skip_failing:
                raise
        parts = []
        for row in range(rows.columns.length):
            at = np.array([row])
            try:
                one = self._preparers[index].prepare(Rows(rows.columns.take(at), rows.positions[at]))
            except TransformError:
                self.skipped_rows += 1
                one = KernelRows.absent(rows.positions[at], lanes=len(self.plan.views[index].lanes))
            parts.append(one)
        return KernelRows.concat(parts)

    def _run_view(self, run: _ViewRun, own: KernelRows | None, batch: Mapping[str, Rows]) -> Emitted:
        """Steps 2 and 3 for one view: what services asked for, by (service, look-up)."""
        if not run.asked:
            return {} if own is None else dict.fromkeys(run.owners, self._process_own(run.index, own))
        view = self.plan.views[run.index]
        if view.given:
            return {
                name: given_output(view, lookup, batch[service.source].columns)
                for name, service, lookup in run.asked
            }
        asked = []
        for name, service, lookup in run.asked:
            time = self.plan.sources[service.source].time_field
            asked.append((name, asking_rows(view, lookup.key_columns, time, batch[service.source])))
        if own is None and len(asked) == 1:
            name, rows = asked[0]
            return {name: self._process(run.index, rows)}
        return self._run_mixed(run.index, own, run.owners, asked)

    def _run_mixed(
        self,
        index: int,
        own: KernelRows | None,
        owners: Sequence[tuple[str, int]],
        asked: Sequence[tuple[tuple[str, int], KernelRows]],
    ) -> Emitted:
        """Merge a view's own rows and look-ups by position.

        At one position a stream's event enters before it is looked up, and a label after: an event that its label had
        waited for does not see it.
        """
        parts: list[tuple[Sequence[tuple[str, int]], KernelRows]] = [([name], rows) for name, rows in asked]
        if own is not None:
            is_label = self.plan.sources[self.plan.views[index].source].label_of is not None
            parts.insert(len(parts) if is_label else 0, (owners, own))
        merged = KernelRows.concat([rows for _, rows in parts])
        phases = np.concatenate([np.full(len(rows.times), i) for i, (_, rows) in enumerate(parts)])
        order = np.lexsort((phases, merged.positions))
        output = self._process(index, merged.take(order))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        emitted: Emitted = {}
        start = 0
        for names, rows in parts:
            stop = start + len(rows.times)
            if names:
                emitted |= dict.fromkeys(names, output.take(back[start:stop]))
            elif self._tells[index]:
                self._note_too_late(index, output.lateness[back[start:stop]])
            start = stop
        return emitted

    def _process_own(self, index: int, rows: KernelRows) -> Output:
        output = self._process(index, rows)
        if self._tells[index]:
            self._note_too_late(index, output.lateness)
        return output

    def _note_too_late(self, index: int, lateness: ByteArray) -> None:
        self._too_late_of[index] += int(np.count_nonzero(lateness == TOO_LATE))

    def _process(self, index: int, rows: KernelRows) -> Output:
        if self.touched is not None:
            self.touched.append((index, rows))
        return self.views[index].process(rows.keys, rows.times, rows.lanes, rows.valid, rows.ops)
