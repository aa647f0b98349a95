"""Features of any stretch of the log, recomputed and written to a file, in bounded memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.app.runtime import open_reader, plan_of
from penstock.core.errors import InputError, NotFoundError
from penstock.core.types import DataType, Int64
from penstock.definitions.project import load_project
from penstock.engine.feature_frame import append_features
from penstock.engine.frames import empty_table, to_arrow
from penstock.engine.history import LoggedFeatures, feature_parts
from penstock.engine.parquet_files import write_parquet
from penstock.engine.recovery import Progress, no_progress
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
    with open_reader(root) as store:
        end = store.next_position if stop is None else min(stop, store.next_position)
        if start > end:
            raise InputError(
                f"replay: --from is {start} and the stretch ends at {end}; allowed is a smaller --from."
            )
        parts = feature_parts(store, plan, node, as_of="served", start=start, stop=end, progress=progress)
        tables = (_table(plan, node, part) for part in parts)
        if out is None:
            rows = sum(table.num_rows for table in tables)
        else:
            rows = write_parquet(tables, out, schema=_schema(plan, node))
    return Recomputed(
        service=node.name, start=start, stop=end, rows=rows, features=len(node.outputs), out=out
    )


def _table(plan: Plan, node: ServiceNode, logged: LoggedFeatures) -> pa.Table:
    import pyarrow as pa

    columns = {name: logged.events[name] for name, _ in _keys(plan, node)[1:]}
    columns["position"] = Numeric(logged.positions)
    keys = pa.table({name: to_arrow(columns[name], dtype) for name, dtype in _keys(plan, node)})
    return append_features(keys, node, [logged.features]).to_arrow()


def _schema(plan: Plan, node: ServiceNode) -> pa.Schema:
    features = [(output.name.replace(".", "__"), output.dtype) for output in node.outputs]
    return empty_table([*_keys(plan, node), *features]).schema


def _keys(plan: Plan, node: ServiceNode) -> list[tuple[str, DataType]]:
    """What a row begins with: its position, and its event's id where the source has one."""
    source = plan.sources[node.source]
    return [("position", Int64), *((f.name, f.dtype) for f in source.fields if f.name == source.id_field)]


def _service(plan: Plan, name: str | None) -> ServiceNode:
    listed = ", ".join(plan.services)
    if name is None and len(plan.services) == 1:
        return next(iter(plan.services.values()))
    if name is None:
        raise InputError(f"replay: the project has several services: {listed}. Choose one: --service NAME.")
    if name not in plan.services:
        raise NotFoundError(f"feature service {name!r} does not exist; there are {listed}.")
    return plan.services[name]
