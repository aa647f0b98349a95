"""What the tables of the offline store hold: committed batches of the log, as Arrow tables.

Columns whose names begin with an underscore are ours, the others the source's own fields. Forgotten rows are left out.
A label is a row once its event is there too, at the later of the two positions, so that a table that is complete up to a
position holds all that was known there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from penstock.core.time import DAY_US
from penstock.core.types import TYPES_BY_NAME, Bool, DataType, Field, Float64, Int64, String, Timestamp
from penstock.engine.decisions import Decisions, Flag, concat_decisions
from penstock.engine.frames import to_arrow
from penstock.engine.labels import EVENT, FIRST
from penstock.engine.lookup import ERASED, RowReader, conformed, joined
from penstock.engine.routing import DecidedBy
from penstock.kernel.columns import BoolArray, Column, Columns, IntArray, Numeric, offsets_of
from penstock.kernel.columns import Text as TextColumn
from penstock.stores.offline import EVENT_DATE, POSITION

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.engine.ports import LogReader
    from penstock.plan.describe import Description
    from penstock.plan.nodes import EndpointNode, Plan, SourceNode

INGEST_TIME = "_ingest_time"
EVENT_ID = "_event_id"
EVENT_TIME = "_event_time"
EVENT_POSITION = "_event_position"
LABEL_POSITION = "_label_position"
FIRST_LABEL = "_first"
SERVICE = "_service"

Block = tuple[int, "pa.Table"]
"""Rows of a table, and the position up to which it is complete with them."""

FeatureTypes = Callable[[str, tuple[DecidedBy, ...]], "Sequence[tuple[str, DataType]] | None"]
"""Names and types of the vectors of a service fingerprint and model version; None where nobody knows them any more."""

LIST_PREFIX = "list__"
"""Before the name of a list of keys: the column of the list's version that was in force."""

_FLAGS = {
    "late": Flag.LATE,
    "too_late": Flag.TOO_LATE,
    "degraded": Flag.DEGRADED,
    "no_model": Flag.NO_MODEL,
    "explored": Flag.EXPLORED,
    "over_budget": Flag.OVER_BUDGET,
}


@dataclass(slots=True)
class Unknown:
    """How many vectors could not be exported, because the definitions that they were served by are gone."""

    vectors: int = 0


class OfflineRows:
    """The rows of each offline table, read from the log.

    Parameters
    ----------
    store, plan
        The log, and what is in it.
    types
        Finds names and types of vectors.
    most
        Most rows of small batches in one table.
    """

    def __init__(self, store: LogReader, plan: Plan, types: FeatureTypes, *, most: int) -> None:
        self._store = store
        self._plan = plan
        self._types = types
        self._most = most
        self._rows = RowReader(store, plan.sources)
        self.unknown = Unknown()

    def tables(self) -> dict[str, Callable[[int, int], Iterator[Block]]]:
        """By table name what gives its rows of the positions ``[start, stop)``, batch by batch."""
        found: dict[str, Callable[[int, int], Iterator[Block]]] = {}
        for source in self._plan.sources.values():
            kind, rows = ("events", self._events) if source.label_of is None else ("labels", self._labels)
            found[f"{kind}/{source.name}"] = _bound(rows, source)
        for endpoint in self._plan.endpoints.values():
            found[f"decisions/{endpoint.name}"] = _bound(self._decisions, endpoint)
            found[f"features/{endpoint.name}"] = _bound(self._features, endpoint)
        return found

    def _events(self, source: SourceNode, start: int, stop: int) -> Iterator[Block]:
        for batches in gathered(
            self._store.read_log(start, stop, sources={source.name}),
            most=self._most,
            rows=lambda batch: len(batch.positions),
        ):
            columns = joined([conformed(Columns.from_bytes(batch.payload), source) for batch in batches])
            positions = np.concatenate([batch.positions for batch in batches])
            ingested = np.repeat(
                [batch.ingest_time_us for batch in batches], [len(batch.positions) for batch in batches]
            )
            upto = int(min(positions[-1] + 1, stop))
            kept = (positions >= start) & (positions < stop) & ~_erased(columns)
            columns, positions = _only(columns, positions, kept)
            times = _numbers(columns[source.time_field])
            yield (
                upto,
                _table(
                    {POSITION: (positions, Int64), INGEST_TIME: (ingested[kept], Timestamp)},
                    columns,
                    source.fields,
                    dates_us=times,
                ),
            )

    def _labels(self, source: SourceNode, start: int, stop: int) -> Iterator[Block]:
        """Labels that came after their event, and those that waited for it, by the position of whichever came last."""
        for first in range(start, stop, _LABEL_WINDOW):
            last = min(first + _LABEL_WINDOW, stop)
            parts = [*self._late(source, first, last), *self._early(source, first, last)]
            if parts:
                import pyarrow as pa

                yield (
                    last,
                    pa.concat_tables(parts).sort_by([(POSITION, "ascending"), (LABEL_POSITION, "ascending")]),
                )

    def _late(self, source: SourceNode, start: int, stop: int) -> Iterator[pa.Table]:
        for batch in self._store.read_log(start, stop, sources={source.name}):
            columns = conformed(Columns.from_bytes(batch.payload), source)
            events = _numbers(columns[EVENT])
            kept = (batch.positions >= start) & (batch.positions < stop) & ~_erased(columns)
            kept &= (events >= 0) & (events < batch.positions)
            if kept.any():
                columns, positions = _only(columns, batch.positions, kept)
                yield _label_table(
                    columns, source, labels=positions, events=events[kept], effective=positions
                )

    def _early(self, source: SourceNode, start: int, stop: int) -> Iterator[pa.Table]:
        if not self._store.counters().get("labels_early", 0):
            return
        for batch in self._store.read_log(start, stop, sources={str(source.label_of)}):
            inside = batch.positions[(batch.positions >= start) & (batch.positions < stop)]
            records = self._store.labels_of(inside)
            early = np.flatnonzero(records.label_positions < records.event_positions)
            if len(early):
                labels, events = records.label_positions[early], records.event_positions[early]
                columns = self._rows.events_if_all(source.name, labels)
                if columns is None:  # of another label source of the same stream
                    continue
                kept = np.flatnonzero(~_erased(columns))
                columns, labels, events = columns.take(kept), labels[kept], events[kept]
                yield _label_table(columns, source, labels=labels, events=events, effective=events)

    def _decisions(self, endpoint: EndpointNode, start: int, stop: int) -> Iterator[Block]:
        for upto, ours, decisions in self._decided(endpoint, start, stop):
            flags = {name: Numeric((decisions.flags & np.uint8(flag)) > 0) for name, flag in _FLAGS.items()}
            score = np.isnan(decisions.scores)
            columns = {
                "model": _named(decisions, [arm.version for arm in decisions.arms]),
                "arm": _named(decisions, [arm.arm for arm in decisions.arms]),
                "score": Numeric(np.where(score, 0.0, decisions.scores), ~score),
                "action": _chosen(decisions.actions, decisions.taken),
                "rule": _rule(decisions),
                "policy": _same(decisions.policy or None, len(decisions)),
                **flags,
                **_list_versions(decisions),
            }
            kinds = {"score": Float64, **dict.fromkeys(_FLAGS, Bool)}
            fields = [
                (name, Int64 if name.startswith(LIST_PREFIX) else kinds.get(name, String)) for name in columns
            ]
            yield upto, _beside(ours, Columns(len(decisions), columns), fields)

    def _features(self, endpoint: EndpointNode, start: int, stop: int) -> Iterator[Block]:
        for upto, ours, decisions in self._decided(endpoint, start, stop):
            known = self._types(decisions.service, decisions.arms)
            if known is None or len(known) != decisions.vectors.shape[1]:
                self.unknown.vectors += len(decisions)
                continue
            columns: dict[str, Column] = {SERVICE: _same(decisions.service, len(decisions))}
            fields = [(SERVICE, String)]
            for i, (name, dtype) in enumerate(known):
                if dtype.kind != "text":  # a vector has no texts
                    fields.append((name.replace(".", "__"), dtype))
                    columns[fields[-1][0]] = _value_column(decisions.vectors[:, i], dtype)
            yield upto, _beside(ours, Columns(len(decisions), columns), fields)

    def _decided(
        self, endpoint: EndpointNode, start: int, stop: int
    ) -> Iterator[tuple[int, dict[str, tuple[Any, DataType]], Decisions]]:
        """Decisions with what every table of theirs begins with."""
        source = self._plan.sources[endpoint.source]
        batches = self._store.read_decisions(start, stop, endpoints={endpoint.name})
        decided = ((batch.positions, Decisions.from_bytes(batch.payload)) for batch in batches)
        for group in gathered(
            decided, by=lambda one: one[1].header, most=self._most, rows=lambda one: len(one[0])
        ):
            decisions = concat_decisions([one for _, one in group])
            positions = np.concatenate([at for at, _ in group])
            upto = int(min(positions[-1] + 1, stop))
            kept = (positions >= start) & (positions < stop)
            kept &= (decisions.flags & np.uint8(Flag.ERASED)) == 0
            if not kept.any():
                continue
            positions = positions[kept]
            events = self._rows.events(endpoint.source, positions)
            ours: dict[str, tuple[Any, DataType]] = {POSITION: (positions, Int64)}
            if source.id_field is not None:
                dtype = next(f.dtype for f in source.fields if f.name == source.id_field)
                ours[EVENT_ID] = (events[source.id_field], dtype)
            ours[EVENT_TIME] = (_numbers(events[source.time_field]), Timestamp)
            yield upto, ours, decisions.take(kept)


_LABEL_WINDOW = 1 << 18

One = TypeVar("One")


def gathered(
    batches: Iterable[One],
    *,
    most: int,
    rows: Callable[[One], int],
    by: Callable[[One], object] = lambda _: None,
) -> Iterator[list[One]]:
    """Small batches, one after another, in groups of at most so many rows; `by` is the same for all of a group."""
    group: list[One] = []
    count = 0
    for batch in batches:
        if group and (count + rows(batch) > most or by(batch) != by(group[0])):
            yield group
            group, count = [], 0
        group.append(batch)
        count += rows(batch)
    if group:
        yield group


def known_types(
    plan: Plan, manifest: Callable[[str], Any], applied: Callable[[], Iterable[Description]]
) -> FeatureTypes:
    """Names and types from the plan, from the manifest of the model version that scored, or from what was ever applied."""
    known = {
        service.fingerprint: tuple((output.name, output.dtype) for output in service.outputs)
        for service in plan.services.values()
    }
    asked: set[tuple[str, tuple[DecidedBy, ...]]] = set()

    def types(fingerprint: str, arms: tuple[DecidedBy, ...]) -> Sequence[tuple[str, DataType]] | None:
        if fingerprint not in known and (fingerprint, arms) not in asked:
            asked.add((fingerprint, arms))
            for found in filter(None, (manifest(arm.version) for arm in arms if arm.version)):
                features = [(feature.name, TYPES_BY_NAME[feature.dtype]) for feature in found.features]
                known.setdefault(found.service_fingerprint, tuple(features))
            for description in applied() if fingerprint not in known else ():
                known.update(_described(description))
        return known.get(fingerprint)

    return types


def _described(description: Description) -> dict[str, tuple[tuple[str, DataType], ...]]:
    """Names and types by service fingerprint; a service with arrays has no endpoint, and so no vectors."""
    return {
        service["fingerprint"]: tuple((one["name"], TYPES_BY_NAME[one["type"]]) for one in service["outputs"])
        for service in description["services"]
        if all(one["type"] in TYPES_BY_NAME for one in service["outputs"])
    }


def _bound(rows: Callable[..., Iterator[Block]], node: Any) -> Callable[[int, int], Iterator[Block]]:
    return lambda start, stop: rows(node, start, stop)


def _table(
    ours: Mapping[str, tuple[Any, DataType]],
    columns: Columns,
    fields: Sequence[Field] | Sequence[tuple[str, DataType]],
    *,
    dates_us: IntArray | None = None,
) -> pa.Table:
    import pyarrow as pa

    made = {name: _arrow(values, dtype) for name, (values, dtype) in ours.items()}
    if dates_us is not None:
        made[EVENT_DATE] = pa.array((dates_us // DAY_US).astype(np.int32)).cast(pa.date32())
    for field in fields:
        name, dtype = (field.name, field.dtype) if isinstance(field, Field) else field
        made[name] = to_arrow(columns[name], dtype)
    return pa.table(made)


def _beside(
    ours: Mapping[str, tuple[Any, DataType]],
    columns: Columns,
    fields: Sequence[Field] | Sequence[tuple[str, DataType]],
) -> pa.Table:
    return _table(ours, columns, fields, dates_us=ours[EVENT_TIME][0])


def _label_table(
    columns: Columns, source: SourceNode, *, labels: IntArray, events: IntArray, effective: IntArray
) -> pa.Table:
    ours = {
        POSITION: (effective, Int64),
        LABEL_POSITION: (labels, Int64),
        EVENT_POSITION: (events, Int64),
        FIRST_LABEL: (columns[FIRST], Bool),
    }
    return _table(ours, columns, source.fields)


def _arrow(values: Any, dtype: DataType) -> pa.Array:
    return to_arrow(Numeric(values) if isinstance(values, np.ndarray) else values, dtype)


def _only(columns: Columns, positions: IntArray, kept: BoolArray) -> tuple[Columns, IntArray]:
    return (columns, positions) if kept.all() else (columns.take(np.flatnonzero(kept)), positions[kept])


def _erased(columns: Columns) -> BoolArray:
    if ERASED not in columns:
        return np.zeros(columns.length, np.bool_)
    return _numbers(columns[ERASED]).astype(np.bool_)


def _numbers(column: Column) -> IntArray:
    assert isinstance(column, Numeric)
    return column.values.astype(np.int64, copy=False)


def _value_column(values: Any, dtype: DataType) -> Numeric:
    """A feature of vectors as a column of its own type; a vector holds it as a float64."""
    absent = np.isnan(values)
    filled = np.where(absent, 0.0, values)
    if dtype.kind != "float":
        filled = filled.astype(np.bool_ if dtype.kind == "bool" else np.int64)
    return Numeric(filled, ~absent)


def _same(text: str | None, count: int) -> Column:
    return _chosen(
        [text or ""], np.zeros(count, np.int64), valid=None if text is not None else np.zeros(count, np.bool_)
    )


def _named(decisions: Decisions, names: Sequence[str]) -> Column:
    """The name of who decided each row; null where it is empty."""
    by = np.zeros(len(decisions), np.uint8) if decisions.by is None else decisions.by
    valid = np.array([bool(name) for name in names])[by]
    return _chosen(names, by, valid=None if valid.all() else valid)


def _rule(decisions: Decisions) -> Column:
    """The rule that decided each row; null where the score did."""
    fired = np.zeros(len(decisions), np.uint8) if decisions.fired is None else decisions.fired
    return _chosen(["", *decisions.rules], fired, valid=fired > 0)


def _list_versions(decisions: Decisions) -> dict[str, Column]:
    """By column the version of each list that was in force."""
    if decisions.list_versions is None:
        return {}
    versions = np.broadcast_to(decisions.list_versions, (len(decisions), len(decisions.lists))).astype(
        np.int64
    )
    return {f"{LIST_PREFIX}{name}": Numeric(versions[:, at]) for at, name in enumerate(decisions.lists)}


def _chosen(texts: Sequence[str], codes: Any, *, valid: BoolArray | None = None) -> Column:
    """The text of each code."""
    encoded = [np.frombuffer(text.encode(), np.uint8) for text in texts]
    table = TextColumn(offsets_of(np.array([len(e) for e in encoded])), np.concatenate(encoded), None)
    taken = table.take(np.asarray(codes, np.int64))
    return TextColumn(taken.offsets, taken.data, valid)


def problem_of(unknown: Unknown) -> str | None:
    """What to say about vectors that could not be exported."""
    if not unknown.vectors:
        return None
    return (
        f"{unknown.vectors} vectors were served by definitions that neither the project nor its history nor a registered "
        "model has, so their features have no names. They stay in the log, and are left out of the features tables."
    )
