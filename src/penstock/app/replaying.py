"""Features of any stretch of the log, recomputed and written to a file, in bounded memory."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.app.runtime import open_reader, plan_of
from penstock.core.errors import InputError, NotFoundError
from penstock.core.types import Int64
from penstock.definitions.project import load_project
from penstock.engine.features import FeatureState
from penstock.engine.frames import to_arrow
from penstock.engine.history import LoggedFeatures
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.replay import replay
from penstock.engine.training_set import append_features
from penstock.kernel.columns import Numeric
from penstock.plan.nodes import Plan, ServiceNode

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """What was recomputed: of which service, which positions, how many events and features, and where it was written."""

    service: str
    start: int
    stop: int
    rows: int
    features: int
    out: Path | None

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**asdict(self), "out": None if self.out is None else str(self.out)}


def recompute(
    root: Path,
    service: str | None,
    *,
    start: int = 0,
    stop: int | None = None,
    out: Path | None = None,
    progress: Progress = no_progress,
) -> Recomputed:
    """Recompute the features of `service` (None: the only one) for the events at positions ``[start, stop)``.

    The log is folded from its beginning, since features depend on what was before; only the stretch is written.
    """
    plan = plan_of(load_project(root))
    node = _service(plan, service)
    with open_reader(root) as store, ExitStack() as closing:
        end = store.next_position if stop is None else min(stop, store.next_position)
        if start > end:
            raise InputError(
                f"replay: --from is {start} and the stretch ends at {end}; allowed is a smaller --from."
            )
        writer = _Writer(out, closing)
        for replayed in replay(store, FeatureState(plan), stop=end, services=[node], exact=True):
            progress(replayed.chunk.stop, end)
            rows = replayed.chunk.rows.get(node.source)
            if rows is not None and replayed.chunk.stop > start:
                features = replayed.features[node.name]
                writer.write(
                    _table(plan, node, LoggedFeatures(rows.columns, rows.positions, features), start)
                )
    return Recomputed(
        service=node.name, start=start, stop=end, rows=writer.rows, features=len(node.outputs), out=out
    )


class _Writer:
    """Counts tables, and appends them to a Parquet file that appears when it is complete."""

    def __init__(self, out: Path | None, closing: ExitStack) -> None:
        self.rows = 0
        self._out = out
        self._closing = closing
        self._file: Any = None

    def write(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        if self._out is None:
            return
        if self._file is None:
            self._file = self._open(self._out, table.schema)
        self._file.write_table(table)

    def _open(self, out: Path, schema: pa.Schema) -> Any:
        from pyarrow.parquet import ParquetWriter

        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(out.name + ".tmp")
        writer = ParquetWriter(aside, schema)

        def finish(kind: object, *_: object) -> None:
            writer.close()
            if kind is None:
                aside.replace(out)
            else:
                aside.unlink()

        self._closing.push(finish)
        return writer


def _table(plan: Plan, node: ServiceNode, logged: LoggedFeatures, start: int) -> pa.Table:
    import pyarrow as pa

    source = plan.sources[node.source]
    keys: dict[str, Any] = {"position": to_arrow(Numeric(logged.positions), Int64)}
    if source.id_field is not None:
        dtype = next(f.dtype for f in source.fields if f.name == source.id_field)
        keys[source.id_field] = to_arrow(logged.events[source.id_field], dtype)
    whole = append_features(pa.table(keys), node, [logged.features]).to_arrow()
    return whole.slice(int((logged.positions < start).sum()))


def _service(plan: Plan, name: str | None) -> ServiceNode:
    listed = ", ".join(plan.services)
    if name is None and len(plan.services) == 1:
        return next(iter(plan.services.values()))
    if name is None:
        raise InputError(f"replay: the project has several services: {listed}. Choose one: --service NAME.")
    if name not in plan.services:
        raise NotFoundError(f"feature service {name!r} does not exist; there are {listed}.")
    return plan.services[name]
