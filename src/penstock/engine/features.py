"""The step of the features: rows in log order in, feature rows out, state moved on. Pure and deterministic.

One batch goes through four steps:

1. `FeatureState.prepare`: each view's function turns its source's rows into keys, times and lanes;
2. the rows of a view - its own, and the look-ups of other streams' events - are put in log order;
3. the kernel applies and emits them (`ViewState.process`);
4. realtime views run on what was emitted, and everything is put in the order of the service (`assembly`).

Live events, replay, audit, backfill and training sets all come through here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from penstock.core.errors import TransformError
from penstock.engine.assembly import Assembler, FeatureRows
from penstock.engine.kernel_rows import KernelRows, Rows, ViewPreparer, asking_rows, take_output
from penstock.kernel.columns import Columns, IntArray
from penstock.kernel.jit import ByteArray
from penstock.kernel.state import Output, ViewState
from penstock.kernel.step import TOO_LATE
from penstock.plan.nodes import Plan, ServiceNode

_THREADED_ROWS = 1 << 16
"""From this many rows on, views are worked on side by side: the kernel lets go of the interpreter's lock."""

Emitted = dict[tuple[str, int], Output]


class FeatureState:
    """The state of all of a plan's views: a deterministic fold of the log."""

    def __init__(self, plan: Plan, *, views: Sequence[ViewState] | None = None) -> None:
        self.plan = plan
        self.views = [ViewState(view.program) for view in plan.views] if views is None else list(views)
        self._preparers = [
            ViewPreparer(view, state) for view, state in zip(plan.views, self.views, strict=True)
        ]
        self._assemblers = {
            name: Assembler(plan, service, self.views) for name, service in plan.services.items()
        }
        self._lookups_of = [
            [
                (service, j, lookup)
                for service in plan.services.values()
                for j, lookup in enumerate(service.lookups)
                if lookup.view == i
            ]
            for i in range(len(plan.views))
        ]
        self.skipped_rows = 0
        """Rows that were left out of a view because its function failed on them."""
        self._too_late_of = [0] * len(plan.views)
        self._is_batch = [plan.sources[view.source].is_batch for view in plan.views]
        self._views_of = {
            name: [i for i, view in enumerate(plan.views) if view.source == name] for name in plan.sources
        }

    @property
    def evicted_keys(self) -> int:
        """How many keys have left a view because it held its most, since the log began."""
        return sum(view.evicted_keys for view in self.views)

    @property
    def too_late_rows(self) -> int:
        """Batch rows that were too late to enter a view, since this state was made."""
        return sum(self._too_late_of)

    def prepare(self, source: str, columns: Columns, positions: IntArray) -> dict[int, KernelRows]:
        """Run the functions of all views over `source`: what each view's kernel gets.

        Changes no window; raises `TransformError` where a function fails.
        """
        rows = Rows(columns, positions)
        return {i: self._preparers[i].prepare(rows) for i in self._views_of[source]}

    def prepare_each(self, source: str, columns: Columns) -> tuple[dict[int, KernelRows], dict[int, str]]:
        """`prepare` row by row: what passed, and for each row on which a function failed what went wrong."""
        passed: list[dict[int, KernelRows]] = []
        errors: dict[int, str] = {}
        for row in range(columns.length):
            try:
                passed.append(self.prepare(source, columns.take(np.array([row])), np.zeros(1, np.int64)))
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
        ready = dict(prepared or {})
        for source, rows in batch.items():
            for i in self._views_of.get(source, ()):
                if i not in ready:
                    ready[i] = self._prepared(i, rows, skip_failing=skip_failing)
        wanted = [service for service in services if service.source in batch]
        names = {service.name for service in wanted}
        emitted: Emitted = {}
        if len(self.views) > 1 and sum(rows.columns.length for rows in batch.values()) >= _THREADED_ROWS:
            with ThreadPoolExecutor(min(len(self.views), os.cpu_count() or 1)) as threads:
                jobs = [
                    threads.submit(self._run_view, i, ready.get(i), batch, names)
                    for i in range(len(self.views))
                ]
                for job in jobs:
                    emitted |= job.result()
        else:
            for i in range(len(self.views)):
                emitted |= self._run_view(i, ready.get(i), batch, names)
        return {
            service.name: self._assemblers[service.name].rows(
                batch[service.source].columns,
                [emitted[service.name, j] for j in range(len(service.lookups))],
                exact=exact,
            )
            for service in wanted
        }

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

    def _run_view(
        self, index: int, own: KernelRows | None, batch: Mapping[str, Rows], services: Collection[str]
    ) -> Emitted:
        """Steps 2 and 3 for one view: what services asked for, by (service, look-up)."""
        owners: list[tuple[str, int]] = []
        asked: list[tuple[tuple[str, int], KernelRows]] = []
        for service, j, lookup in self._lookups_of[index]:
            if service.name not in services:
                continue
            if lookup.own:
                owners.append((service.name, j))
            else:
                time = self.plan.sources[service.source].time_field
                view = self.plan.views[index]
                rows = asking_rows(view, lookup.key_columns, time, batch[service.source])
                asked.append(((service.name, j), rows))
        if not asked:
            return {} if own is None else dict.fromkeys(owners, self._process_own(index, own))
        if own is None and len(asked) == 1:
            name, rows = asked[0]
            return {name: self._process(index, rows)}
        return self._run_mixed(index, own, owners, asked)

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
                emitted |= dict.fromkeys(names, take_output(output, back[start:stop]))
            elif self._is_batch[index]:
                self._note_too_late(index, output.lateness[back[start:stop]])
            start = stop
        return emitted

    def _process_own(self, index: int, rows: KernelRows) -> Output:
        output = self._process(index, rows)
        if self._is_batch[index]:
            self._note_too_late(index, output.lateness)
        return output

    def _note_too_late(self, index: int, lateness: ByteArray) -> None:
        self._too_late_of[index] += int(np.count_nonzero(lateness == TOO_LATE))

    def _process(self, index: int, rows: KernelRows) -> Output:
        return self.views[index].process(rows.keys, rows.times, rows.lanes, rows.valid, rows.ops)
