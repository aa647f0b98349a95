"""Lineage: the definitions as a graph, from the columns of sources to the endpoints that decide, and who is told. Pure.

Nodes are what the catalog lists, and columns and model versions besides. A column belongs to its source, a feature to its
view, a version to its model (`Node.of`). An edge says that a change of one end may change the other:

- a column goes into the views that read it; where a view has no function, a column that is only aggregated goes
  straight into its features, so that one sees which ones it makes;
- keys and time go into the view, and the view into each of its features;
- features go into realtime views, services and on into models and endpoints; a label goes into the models that learn it;
- an endpoint goes into its guard, its monitor, and the alerts on its decisions and metrics;
- a model goes into the versions whose features are computed as they were for their training. Any other version hangs on what was kept
  with it: the views of then, as nodes ``former:VIEW@FINGERPRINT``, and the columns that they read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from penstock.definitions.alerts import Alert
from penstock.definitions.batch_configs import ByHand, DeltaConfig, DuckDBConfig, FileConfig
from penstock.definitions.batch_sources import BatchSource
from penstock.definitions.batch_views import BatchFeatureView
from penstock.definitions.endpoints import Endpoint
from penstock.definitions.kafka_configs import KafkaConfig
from penstock.definitions.models import Model
from penstock.definitions.monitors import Monitor
from penstock.definitions.policies import CostMatrix
from penstock.definitions.postgres_configs import PostgresChangesConfig, PostgresConfig
from penstock.definitions.postgres_stream_configs import PostgresStreamConfig
from penstock.definitions.project import Project
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import EventSource, LabelSource, RequestSource, StreamSource
from penstock.definitions.views import (
    FeatureReference,
    FeatureView,
    RealtimeFeatureView,
    StreamFeatureView,
    source_schema,
)
from penstock.plan.aggregates import windows_of
from penstock.plan.describe import window_text
from penstock.plan.functions import columns_read
from penstock.plan.lineage_graph import KINDS, Lineage, Node, Version
from penstock.plan.origins import Origin
from penstock.plan.watching import guard_text, monitor_text

GONE = "not defined any more"


def lineage(
    project: Project, *, streams: Mapping[str, str], versions: Mapping[str, Iterable[Version]]
) -> Lineage:
    """The graph of a project's definitions.

    Parameters
    ----------
    streams
        For each service the stream whose events its rows describe; the request of a realtime view is such an event.
    versions
        The registered versions of each model.
    """
    building = _Builder()
    sources: tuple[Mapping[str, EventSource], ...] = (
        project.sources,
        project.label_sources,
        project.batch_sources,
    )
    for source in chain.from_iterable(one.values() for one in sources):
        building.source(source)
    for view in project.views.values():
        building.view(view)
    for service in project.services.values():
        building.service(service, streams[service.name])
    for model in project.models.values():
        building.model(model, versions.get(model.name, ()))
    for endpoint in project.endpoints.values():
        building.endpoint(endpoint, versions)
    for name, found in versions.items():
        building.former_model(name, found)
    for monitor in project.monitors.values():
        building.monitor(monitor)
    for endpoint in project.endpoints.values():
        building.guard(endpoint)
    for alert in project.alerts.values():
        building.alert(alert)
    return building.lineage()


def _kind_of(source: EventSource) -> str:
    """What a source is, and how its rows arrive."""
    if isinstance(source, BatchSource):
        return f"batch, {_way_of(source.batch_config)}"
    kind = f"labels of {source.of.name}" if isinstance(source, LabelSource) else "stream"
    history = source.batch_config if isinstance(source, StreamSource) else None
    return f"{kind}, {_way_of(source.stream_config)}" + (
        f", history in a {_way_of(history)}" if history else ""
    )


def _way_of(config: object) -> str:
    if isinstance(config, FileConfig):
        return f"{config.file_format} file"
    if isinstance(config, KafkaConfig):
        return f"{config.value_format} of Kafka topic {', '.join(config.topic_names)}"
    return {
        ByHand: "changed by hand",
        DeltaConfig: "Delta table",
        DuckDBConfig: "DuckDB query",
        PostgresConfig: "PostgreSQL table",
        PostgresChangesConfig: "changes of a PostgreSQL table",
        PostgresStreamConfig: "rows of a PostgreSQL table",
    }.get(type(config), "pushed")


@dataclass(slots=True)
class _Builder:
    """Gathers nodes and edges; lives only while a graph is made.

    A definition brings those that it uses, whether or not the project's files name them.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], None] = field(default_factory=dict)

    def lineage(self) -> Lineage:
        ordered = sorted(self.nodes.values(), key=lambda node: KINDS.index(node.kind))
        edges = tuple(edge for edge in self.edges if edge[0] in self.nodes and edge[1] in self.nodes)
        return Lineage({node.id: node for node in ordered}, edges)

    def source(self, source: EventSource) -> None:
        if f"source:{source.name}" in self.nodes:
            return
        if isinstance(source, LabelSource):
            self.source(source.of)
        top = self._add("source", source.name, _kind_of(source), of_definition=source)
        for column in source.schema:
            kind = column.dtype.name + ", optional" * column.optional
            self._link(top, self._add("column", f"{source.name}.{column.name}", kind, of=top))

    def view(self, view: FeatureView) -> None:
        if f"view:{view.name}" in self.nodes:
            return
        if isinstance(view, StreamFeatureView):
            self._stream_view(view)
        else:
            self._realtime_view(view)

    def _stream_view(self, view: StreamFeatureView) -> None:
        self.source(view.source)
        keys = ", ".join(key.name for key in view.join_keys)
        kind = "batch" if isinstance(view, BatchFeatureView) else "stream"
        top = self._add("view", view.name, f"{kind}, by {keys}", of_definition=view)
        fields = source_schema(view.source)
        for name in columns_read(view.function, view.mode, fields) if view.function else self._shared(view):
            self._link(self._column(view.source, name), top)
        if isinstance(view.source, LabelSource):
            self._joins_into(view.source, top)
        for aggregate in view.features:
            windows = windows_of(aggregate)
            where = f" where {aggregate.where}" if aggregate.where else ""
            text = " … ".join(dict.fromkeys((window_text(windows[0]), window_text(windows[-1]))))
            described = f"{aggregate.function} of {aggregate.input_column.name}{where} over {text}"
            feature = self._feature(view, aggregate.name, aggregate.dtype.name, described)
            own = () if view.function else filter(None, (aggregate.input_column.name, aggregate.where))
            for name in own:
                self._link(self._column(view.source, name), feature)

    def _realtime_view(self, view: RealtimeFeatureView) -> None:
        top = self._add("view", view.name, "realtime", of_definition=view)
        for reference in (source for source in view.sources if isinstance(source, FeatureReference)):
            self._features_into(reference, top)
        for attribute in view.features:
            self._feature(view, attribute.name, attribute.dtype.name, f"computed by {view.name}")

    def service(self, service: FeatureService, stream: str) -> None:
        if f"service:{service.name}" in self.nodes:
            return
        what = f"{len(service.feature_types)} features"
        top = self._add("service", service.name, what, of_definition=service)
        for reference in service.features:
            self._features_into(reference, top)
            self._keys_into(reference, stream, top)
            if isinstance(reference.view, RealtimeFeatureView):
                self._request_into(reference.view, stream)

    def model(self, model: Model, versions: Iterable[Version]) -> None:
        if f"model:{model.name}" in self.nodes:
            return
        label, estimator = model.label, type(model.estimator).__name__
        if label is None:
            what = f"{model.task}, {estimator}, learns without labels"
        else:
            self.source(label)
            self.service(model.features, label.of.name)
            told = "is judged by" if model.task == "anomaly" else "learns"
            what = f"{model.task}, {estimator}, {told} {label.name}"
        top = self._add("model", model.name, what, of_definition=model)
        self._link(f"service:{model.features.name}", top)
        if label is not None:
            self._joins_into(label, top)
            for name in (label.label.name, label.known_at):
                self._link(f"column:{label.name}.{name}", top)
        for version in versions:
            self._version(top, version)

    def former_model(self, name: str, versions: Iterable[Version]) -> None:
        """A model that is defined no more, of which there are versions."""
        if f"model:{name}" not in self.nodes:
            top = self._add("model", name, GONE)
            for version in versions:
                self._version(top, version)

    def endpoint(self, endpoint: Endpoint, versions: Mapping[str, Iterable[Version]]) -> None:
        what = f"decides on {endpoint.source.name}"
        for used in endpoint.models:
            self.model(used, versions.get(used.name, ()))
        self.service(endpoint.features, endpoint.source.name)
        top = self._add("endpoint", endpoint.name, what, of_definition=endpoint)
        for used in endpoint.models:
            model = f"model:{used.name}"
            self._link(model, top)
            for node in [n for n in self.nodes.values() if n.of == model and n.type == "Production"]:
                self._link(node.id, top)
        costs = endpoint.policy.costs
        for name in costs.columns if isinstance(costs, CostMatrix) else ():
            self._link(f"column:{endpoint.source.name}.{name}", top)

    def monitor(self, monitor: Monitor) -> None:
        top = self._add("monitor", monitor.name, monitor_text(monitor), of_definition=monitor)
        self._link(f"endpoint:{monitor.endpoint.name}", top)

    def guard(self, endpoint: Endpoint) -> None:
        if endpoint.guard is not None:
            top = self._add("guard", endpoint.name, "takes versions out", text=guard_text(endpoint))
            self._link(f"endpoint:{endpoint.name}", top)

    def alert(self, alert: Alert) -> None:
        top = self._add("alert", alert.name, alert.on.text, of_definition=alert)
        self._link(f"endpoint:{alert.on.endpoint.name}", top)

    def _version(self, model: str, version: Version) -> None:
        stage = "no stage" if version.stage == "None" else version.stage
        name = f"{self.nodes[model].name}:{version.number}"
        top = self._add("version", name, stage, of=model, text=version.data)
        if version.origin is None or version.in_force:
            self._link(model, top)
        else:
            for view in version.origin.views:
                self._link(self._former_view(view, version.origin), top)

    def _former_view(self, name: str, origin: Origin) -> str:
        """A view as it was, with what it read: columns that are still there, or the names of what is gone."""
        view = origin.views[name]
        title = f"{name}@{view.fingerprint[:8]}"
        if f"former:{title}" in self.nodes:
            return f"former:{title}"
        top = self._add("former", title, "a view as it was")
        for read in view.reads:
            kind, _, what = read.partition(":")
            if kind == "view":
                self._link(self._former_view(what, origin), top)
            elif read in self.nodes:
                self._link(read, top)
            else:
                self._link(self._add("former", what, f"a column, {GONE}"), top)
        return top

    def _shared(self, view: StreamFeatureView) -> Iterable[str]:
        """The columns that every feature of a view without a function depends on."""
        return (*(key.name for key in view.join_keys), view.timestamp_field)

    def _joins_into(self, source: LabelSource, end: str) -> None:
        """The ids by which labels find their events."""
        for name in (source.of.name, source.name):
            self._link(f"column:{name}.{source.event_id_field}", end)

    def _features_into(self, reference: FeatureReference, end: str) -> None:
        self.view(reference.view)
        for name in reference.features:
            self._link(f"feature:{reference.view.name}.{name}", end)

    def _keys_into(self, reference: FeatureReference, stream: str, end: str) -> None:
        """The stream's own key columns, where they are not those that the view is made of."""
        view = reference.view
        if isinstance(view, RealtimeFeatureView):
            for nested in (source for source in view.sources if isinstance(source, FeatureReference)):
                self._keys_into(nested, stream, f"view:{view.name}")
        elif reference.join_key_map or view.source.name != stream:
            mapped = dict(reference.join_key_map)
            for key in view.join_keys:
                self._link(f"column:{stream}.{mapped.get(key.name, key.name)}", end)

    def _request_into(self, view: RealtimeFeatureView, stream: str) -> None:
        for request in (source for source in view.sources if isinstance(source, RequestSource)):
            for column in request.schema:
                self._link(f"column:{stream}.{column.name}", f"view:{view.name}")

    def _column(self, source: EventSource, name: str) -> str:
        """The column `name` of a view's source; a label source also gives its events' columns."""
        own = {column.name for column in source.schema}
        labelled = isinstance(source, LabelSource) and name not in own - {source.event_id_field}
        return f"column:{source.of.name if labelled else source.name}.{name}"  # type: ignore[union-attr]

    def _feature(self, view: FeatureView, name: str, kind: str, described: str) -> str:
        top = f"view:{view.name}"
        one = self._add("feature", f"{view.name}.{name}", kind, of=top, of_definition=view, text=described)
        self._link(top, one)
        return one

    def _add(
        self, kind: str, name: str, what: str, *, of: str = "", of_definition: Any = None, text: str = ""
    ) -> str:
        """A node with the words of its definition, or `text`; returns its id."""
        node = Node(
            id=f"{kind}:{name}",
            kind=kind,
            name=name,
            type=what,
            description=text or getattr(of_definition, "description", ""),
            owner=getattr(of_definition, "owner", ""),
            tags=getattr(of_definition, "tags", ()),
            of=of,
        )
        self.nodes[node.id] = node
        return node.id

    def _link(self, begin: str, end: str) -> None:
        self.edges[begin, end] = None
