"""Definitions in, plan out: small steps, each pure.

1. Every feature service gets the stream whose events it describes.
2. Views that a service needs are compiled once each, with only the aggregates that somebody uses.
3. Look-ups, realtime views and the order of outputs are resolved to indices.
4. Everything is hashed to fingerprints that change when, and only when, values could.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from penstock.core.errors import PlanError
from penstock.core.time import LONGEST, to_us
from penstock.core.types import DataType, Field, Int64
from penstock.definitions.aggregates import Aggregate
from penstock.definitions.batch_sources import ROW_ID, BatchSource
from penstock.definitions.batch_views import BatchFeatureView
from penstock.definitions.endpoints import Arm, Endpoint
from penstock.definitions.key_lists import ListSource, lists_among
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import EventSource, LabelSource, RequestSource, StreamSource
from penstock.definitions.views import (
    FeatureReference,
    RealtimeFeatureView,
    StreamFeatureView,
    describe_columns,
    source_schema,
)
from penstock.kernel.program import LaneKind, Program
from penstock.plan.aggregates import folds_of, lane_of, nodes_of, row_counts_of, specs_of, windows_of
from penstock.plan.functions import columns_read, function_code
from penstock.plan.nodes import (
    ArmNode,
    EndpointNode,
    LaneNode,
    Lookup,
    Plan,
    RealtimeNode,
    SecondaryNode,
    Selected,
    ServiceNode,
    SourceNode,
    ViewNode,
)
from penstock.plan.policies import with_policy

_LANE_KINDS = {
    "float": LaneKind.FLOAT,
    "int": LaneKind.INT,
    "bool": LaneKind.INT,
    "time": LaneKind.INT,
    "text": LaneKind.CODE,
}


@dataclass(frozen=True, slots=True)
class Demand:
    """A feature service wanted for the events of one stream."""

    name: str
    references: tuple[FeatureReference, ...]
    source: StreamSource


def compile_plan(
    services: Iterable[tuple[FeatureService, StreamSource]],
    endpoints: Iterable[Endpoint] = (),
    *,
    labels: Iterable[LabelSource] = (),
) -> Plan:
    """The plan that computes `services` for the events of their streams, serves `endpoints`, and takes in `labels`.

    Raises
    ------
    PlanError
        Where definitions do not fit together: a key column that the events lack, two views or services of one name,
        two endpoints on one source, one service on two streams.
    """
    served = tuple(endpoints)
    _check_endpoints(served)
    wanted = [*services]
    for endpoint in served:
        used = (endpoint.features, *(model.features for model in endpoint.models))
        wanted += [(service, endpoint.source) for service in used]
    return compile_demands(_demands(wanted), served, labels=labels)


def _demands(wanted: Iterable[tuple[FeatureService, StreamSource]]) -> tuple[Demand, ...]:
    """One demand a service: a row of features has one name and one meaning."""
    taken: dict[str, tuple[FeatureService, StreamSource]] = {}
    for service, source in wanted:
        other, stream = taken.setdefault(service.name, (service, source))
        if other is not service:
            raise PlanError(
                f"FeatureService {service.name!r}: two different services have this name; allowed is each name once. "
                "Rename one of them."
            )
        if stream is not source:
            raise PlanError(
                f"FeatureService {service.name!r}: it is used for the events of {stream.name!r} and of "
                f"{source.name!r}; allowed is one stream a service. Make a second FeatureService of the same views, and "
                "a model of its own, for the other stream."
            )
    return tuple(Demand(service.name, service.features, source) for service, source in taken.values())


def compile_demands(
    demands: Sequence[Demand], endpoints: Sequence[Endpoint] = (), *, labels: Iterable[LabelSource] = ()
) -> Plan:
    """The plan for `demands`: see `compile_plan`."""
    needed = _needed_aggregates(demands)
    definitions = _distinct_views(demands)
    views = tuple(_compile_view(definitions[name], needed[name]) for name in definitions)
    index = {view.name: i for i, view in enumerate(views)}
    of_models = (model.label for endpoint in endpoints for model in endpoint.models)
    labels = [*labels, *(label for label in of_models if label is not None)]
    sources = _sources(demands, definitions.values(), labels)
    nodes = {d.name: _ServiceCompiler(d, views, index, sources).compile() for d in demands}
    served = {endpoint.name: _endpoint_node(endpoint) for endpoint in endpoints}
    pruned = tuple(_pruned(definitions, views))
    return Plan(sources, views, nodes, served, pruned, plan_fingerprint(sources, views))


def plan_fingerprint(sources: Mapping[str, SourceNode], views: Iterable[ViewNode]) -> str:
    """Equal for two plans if their states are."""
    return _digest(*map(_source_text, sources.values()), *map(_view_text, views))


def _check_endpoints(endpoints: Sequence[Endpoint]) -> None:
    taken: dict[str, str] = {}
    for endpoint in endpoints:
        other = taken.setdefault(endpoint.source.name, endpoint.name)
        if other != endpoint.name:
            raise PlanError(
                f"Endpoint {endpoint.name!r}: source {endpoint.source.name!r} is decided by endpoint {other!r} "
                "already; allowed is one endpoint a source, since every event has exactly one decision. Remove one."
            )


def _stream_references(references: Iterable[FeatureReference]) -> Iterable[FeatureReference]:
    for reference in references:
        if isinstance(reference.view, StreamFeatureView):
            yield reference
        else:
            yield from (s for s in reference.view.sources if isinstance(s, FeatureReference))


def _needed_aggregates(demands: Sequence[Demand]) -> dict[str, set[str]]:
    needed: dict[str, set[str]] = {}
    for demand in demands:
        for reference in _stream_references(demand.references):
            needed.setdefault(reference.view.name, set()).update(reference.features)
    return needed


def _distinct_views(demands: Sequence[Demand]) -> dict[str, StreamFeatureView]:
    views: dict[str, StreamFeatureView] = {}
    for demand in demands:
        for reference in _stream_references(demand.references):
            view = reference.view
            if views.setdefault(view.name, view) is not view:  # type: ignore[arg-type]
                raise PlanError(
                    f"stream feature view {view.name!r}: two different views have this name. Rename one of them."
                )
    return views


def _compile_view(view: StreamFeatureView, needed: set[str]) -> ViewNode:
    used = [aggregate for aggregate in view.features if aggregate.name in needed]
    lanes, secondary = _lanes(view, used)
    windows = tuple(dict.fromkeys(window for aggregate in used for window in windows_of(aggregate)))
    counts = [] if secondary is None else row_counts_of(secondary.lane, windows)
    aggregates = nodes_of(used, lanes, windows, start=len(counts))
    program = Program(
        lanes=tuple(_LANE_KINDS[lane.dtype.kind] for lane in lanes),
        windows=windows,
        aggregates=(
            *counts,
            *(spec for a, node in zip(used, aggregates, strict=True) for spec in specs_of(a, node)),
        ),
        allowed_lateness_us=to_us(view.source.allowed_lateness),
        max_keys=view.max_keys,
    )
    fields = source_schema(view.source)
    return ViewNode(
        name=view.name,
        source=view.source.name,
        mode=view.mode,
        function=view.function,
        code=function_code(view.function),
        columns=fields,
        keys=view.join_keys,
        time_field=view.timestamp_field,
        reads=columns_read(view.function, view.mode, fields),
        lanes=lanes,
        aggregates=aggregates,
        program=program,
        delay_us=to_us(view.source.data_delay) if isinstance(view.source, BatchSource) else 0,
        start_us=_start_us(view),
        folds=folds_of(used, aggregates),
        secondary=secondary,
    )


def _lanes(
    view: StreamFeatureView, used: Sequence[Aggregate]
) -> tuple[tuple[LaneNode, ...], SecondaryNode | None]:
    lanes = dict.fromkeys(lane_of(aggregate) for aggregate in used)
    key = view.aggregation_secondary_key
    if key is None:
        return tuple(lanes), None
    lane = LaneNode(key.name, None, key.dtype)
    lanes.setdefault(lane)
    return tuple(lanes), SecondaryNode(key, list(lanes).index(lane))


def _start_us(view: StreamFeatureView) -> int | None:
    start = view.feature_start_time if isinstance(view, BatchFeatureView) else None
    return None if start is None else to_us(start)


@dataclass(slots=True)
class _ServiceCompiler:
    """Resolves one demand's names to indices; lives only while it is compiled."""

    demand: Demand
    views: tuple[ViewNode, ...]
    index: Mapping[str, int]
    sources: Mapping[str, SourceNode]
    lookups: list[Lookup] = field(default_factory=list)
    realtime: list[RealtimeNode] = field(default_factory=list)
    outputs: list[Selected] = field(default_factory=list)
    request: dict[str, Field] = field(default_factory=dict)

    def compile(self) -> ServiceNode:
        for reference in self.demand.references:
            if isinstance(reference.view, RealtimeFeatureView):
                self.outputs.extend(self._realtime(reference, reference.view))
            else:
                self.outputs.extend(self._stream(reference))
        lookups, realtime, outputs = tuple(self.lookups), tuple(self.realtime), tuple(self.outputs)
        return ServiceNode(
            name=self.demand.name,
            source=self.demand.source.name,
            lookups=lookups,
            realtime=realtime,
            outputs=outputs,
            request_columns=tuple(self.request),
            fingerprint=_digest(
                repr((self.demand.source.name, self.demand.source.time_field)),
                *(self._output_text(output) for output in outputs),
            ),
        )

    def _output_text(self, output: Selected) -> str:
        """What `output` means, whatever else the plan computes: indices are resolved to definitions."""
        if output.kind == "lookup":
            lookup = self.lookups[output.index]
            view = self.views[lookup.view]
            node = view.aggregate_at(output.column)
            lane, windows = view.lanes[node.lane], [view.program.windows[at] for at in node.windows]
            meaning = (
                view.name,
                view.source,
                self.sources[view.source].label_of,
                self.sources[view.source].label_field,
                view.mode,
                view.code,
                fields_read(view),
                view.keys,
                view.time_field,
                lookup.key_columns,
                lookup.own,
                *_batch_meaning(view),
                *_meaning_beside(view, range(node.output, node.output + len(windows))),
            )
            lateness = view.program.allowed_lateness_us
            return repr((output.name, output.dtype, meaning, node.function, lane, windows, lateness))
        realtime = self.realtime[output.index]
        arguments = [
            [a if isinstance(a, Field) else self._output_text(a) for a in argument]
            for argument in realtime.arguments
        ]
        return repr((output.name, output.dtype, realtime.mode, realtime.code, arguments))

    def _stream(self, reference: FeatureReference) -> list[Selected]:
        view = self.views[self.index[reference.view.name]]
        lookup = self._lookup(reference, view)
        if lookup not in self.lookups:
            self.lookups.append(lookup)
        at = self.lookups.index(lookup)
        nodes = {node.name: node for node in view.aggregates}
        return [
            Selected(
                kind="lookup",
                index=at,
                column=nodes[name].output,
                name=f"{reference.name}.{name}",
                dtype=dtype,
                width=view.width(nodes[name]),
                is_series=nodes[name].is_series,
            )
            for name, dtype in reference.feature_types.items()
        ]

    def _lookup(self, reference: FeatureReference, view: ViewNode) -> Lookup:
        mapped = dict(reference.join_key_map)
        columns = {f.name: f.dtype for f in self.demand.source.schema}
        own = view.source == self.demand.source.name and not mapped
        for key in view.keys:
            column = mapped.get(key.name, key.name)
            found = columns.get(column)
            if found is not key.dtype and not (own and found is None):
                raise PlanError(
                    f"service {self.demand.name!r}: view {view.name!r} needs join key {key.name!r} ({key.dtype}) in "
                    f"column {column!r} of {self.demand.source.name!r}, whose columns are "
                    f"{describe_columns(columns)}. Add the column, or map the key with "
                    f'.with_join_key_map({{"{key.name}": "..."}}).'
                )
        return Lookup(self.index[view.name], tuple(mapped.get(k.name, k.name) for k in view.keys), own)

    def _realtime(self, reference: FeatureReference, view: RealtimeFeatureView) -> list[Selected]:
        arguments = tuple(
            self._request(view, source) if isinstance(source, RequestSource) else tuple(self._stream(source))
            for source in view.sources
        )
        node = RealtimeNode(
            name=view.name,
            mode=view.mode,
            function=view.function,
            code=function_code(view.function),
            arguments=arguments,
            attributes=tuple(Field(a.name, a.dtype) for a in view.features),
        )
        if node not in self.realtime:
            self.realtime.append(node)
        at = self.realtime.index(node)
        names = [attribute.name for attribute in view.features]
        return [
            Selected("realtime", at, names.index(name), f"{reference.name}.{name}", dtype)
            for name, dtype in reference.feature_types.items()
        ]

    def _request(self, view: RealtimeFeatureView, request: RequestSource) -> tuple[Field, ...]:
        columns = {f.name: f for f in self.demand.source.schema}
        for wanted in request.schema:
            found = columns.get(wanted.name)
            if found is None or found.dtype is not wanted.dtype:
                raise PlanError(
                    f"realtime feature view {view.name!r}: request column {wanted.name!r} ({wanted.dtype}) is not a "
                    f"column of {self.demand.source.name!r}, whose events are the requests. It has "
                    f"{describe_columns({n: f.dtype for n, f in columns.items()})}."
                )
            self.request[wanted.name] = found
        return tuple(columns[wanted.name] for wanted in request.schema)


def _sources(
    demands: Sequence[Demand], views: Iterable[StreamFeatureView], labels: Iterable[LabelSource]
) -> dict[str, SourceNode]:
    found: dict[str, EventSource] = {}
    wanted: list[EventSource] = [demand.source for demand in demands]
    wanted += [view.source for view in views]
    wanted += labels
    wanted += [source.of for source in wanted if isinstance(source, LabelSource)]
    for source in wanted:
        if found.setdefault(source.name, source) is not source:
            raise PlanError(
                f"source {source.name!r}: two different sources have this name. Rename one of them."
            )
    return {name: source_node(found[name]) for name in sorted(found)}


def source_node(source: EventSource) -> SourceNode:
    """The plan's node of a source."""
    if isinstance(source, BatchSource):
        return _batch_node(source)
    label = source if isinstance(source, LabelSource) else None
    return SourceNode(
        name=source.name,
        fields=source.schema,
        time_field=source.time_field,
        id_field=source.event_id_field,
        allowed_lateness_us=to_us(source.allowed_lateness),
        max_future_skew_us=to_us(source.max_future_skew),
        label_of=label.of.name if label else None,
        label_field=label.label.name if label else None,
        card_numbers=source.card_numbers,
    )


def _batch_node(source: BatchSource) -> SourceNode:
    """Rows wait outside the log until their time has come, so that none is ahead of the clock."""
    return SourceNode(
        name=source.name,
        fields=(*source.schema, Field(ROW_ID, Int64)),
        time_field=source.time_field,
        id_field=ROW_ID,
        allowed_lateness_us=to_us(source.allowed_lateness),
        max_future_skew_us=to_us(LONGEST),
        is_batch=True,
        is_list=isinstance(source, ListSource),
        data_delay_us=to_us(source.data_delay),
        card_numbers=source.card_numbers,
    )


def _endpoint_node(endpoint: Endpoint) -> EndpointNode:
    return with_policy(
        EndpointNode(
            name=endpoint.name,
            source=endpoint.source.name,
            service=endpoint.features.name,
            model=endpoint.model.name,
            policy="",
            actions=(),
            thresholds=(),
            arms=tuple(_arm_node(endpoint, arm) for arm in endpoint.arms),
            sticky=endpoint.sticky.key_names if endpoint.sticky else (),
            lists=lists_among(endpoint.features.features),
        ),
        endpoint.policy,
        tuple(endpoint.features.feature_types),
    )


def _arm_node(endpoint: Endpoint, arm: Arm) -> ArmNode:
    model = arm.model or endpoint.model
    names = list(endpoint.features.feature_types)
    columns = tuple(names.index(name) for name in model.features.feature_types)
    return ArmNode(
        name=arm.name,
        model=model.name,
        service=model.features.name,
        version=str(arm.version),
        weight=float(arm.weight),
        shadow=arm.shadow,
        columns=None if columns == tuple(range(len(names))) else columns,
    )


def _pruned(definitions: Mapping[str, StreamFeatureView], views: Sequence[ViewNode]) -> Iterable[str]:
    for view in views:
        kept = {aggregate.name for aggregate in view.aggregates}
        yield from (f"{view.name}.{a.name}" for a in definitions[view.name].features if a.name not in kept)
        reads = fields_read(view)
        yield from (f"{view.source}.{f.name} in {view.name}" for f in view.columns if f not in reads)


def fields_read(view: ViewNode) -> tuple[Field, ...]:
    """The source's columns that enter the view: those that its function reads, or without one those that it uses."""
    names = set(view.reads)
    if view.function is None:
        names = {key.name for key in view.keys} | {view.time_field} | {lane.column for lane in view.lanes}
        names |= {lane.where for lane in view.lanes if lane.where}
    return tuple(f for f in view.columns if f.name in names)


def source_fingerprint(source: SourceNode) -> str:
    """Changes with the source's schema, and with what its events' times mean."""
    return _digest(_source_text(source))


def _source_text(source: SourceNode) -> str:
    """What of `source` the state depends on: not how far in the future an event may lie to be taken."""
    return repr(replace(source, max_future_skew_us=0))


def view_fingerprint(plan: Plan, view: ViewNode) -> str:
    """Equal for two views, of one plan or of two, if their states are: it covers the view and what it reads of its sources."""
    source = plan.sources[view.source]
    labelled = [] if source.label_of is None else [plan.sources[source.label_of]]
    read = fields_read(view)
    sources = (replace(s, fields=tuple(f for f in s.fields if f in read)) for s in [source, *labelled])
    return _digest(_view_text(view), *map(_source_text, sources))


def realtime_fingerprint(plan: Plan, service: ServiceNode, node: RealtimeNode) -> str:
    """Changes with what a realtime view of a service computes, and with the features that it computes it from."""
    arguments = [
        [one if isinstance(one, Field) else _selected_text(plan, service, one) for one in argument]
        for argument in node.arguments
    ]
    return _digest(repr((node.name, node.mode, node.code, arguments, node.attributes)))


def _selected_text(plan: Plan, service: ServiceNode, selected: Selected) -> str:
    """A feature that a realtime view takes, without the place that it has in a plan."""
    lookup = service.lookups[selected.index]
    view = plan.views[lookup.view]
    return repr((selected.name, selected.dtype, lookup.key_columns, view_fingerprint(plan, view)))


def _view_text(view: ViewNode) -> str:
    parts: tuple[object, ...] = (
        view.name,
        view.source,
        view.mode,
        view.code,
        view.keys,
        view.time_field,
        view.lanes,
        view.aggregates,
        view.program,
        *_batch_meaning(view),
        *_meaning_beside(view),
        *(("given",) if view.given else ()),
    )
    return repr(parts)


def _batch_meaning(view: ViewNode) -> tuple[object, ...]:
    """What only batch views have, and a fingerprint of others need not know."""
    return (view.delay_us, view.start_us) if view.delay_us or view.start_us is not None else ()


def _meaning_beside(view: ViewNode, outputs: Sequence[int] | None = None) -> tuple[object, ...]:
    """What is not the kernel's own: the secondary key, and the code of folds, of all or of these outputs."""
    secondary = () if view.secondary is None else (view.secondary.column,)
    return (*secondary, *(fold.code for fold in view.folds if outputs is None or fold.output in outputs))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def feature_types(outputs: Sequence[Selected]) -> dict[str, DataType]:
    """Names and types of a service's outputs, in order."""
    return {output.name: output.dtype for output in outputs}
