"""What is defined: sources, the catalog, lineage, contracts, the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from penstock.app.agreements import agreements_of
from penstock.app.catalog import catalog_of
from penstock.app.runtime import open_reader
from penstock.core.errors import NotFoundError
from penstock.core.time import from_us
from penstock.plan.describe import describe
from penstock.plan.explain import explain_description
from penstock.serving.access import GuardedRoute
from penstock.serving.catalog_shapes import (
    AgreedShape,
    ContractShape,
    EntryShape,
    FieldShape,
    GraphShape,
    NodeShape,
    SourceShape,
)
from penstock.serving.paging import Cursor, Limit, Page, part
from penstock.serving.platform import Platform, platform_of
from penstock.serving.shapes import ProblemShape

if TYPE_CHECKING:
    from penstock.app.agreements import Agreement
    from penstock.app.source_facts import SourceFacts
    from penstock.plan.lineage_graph import Lineage
    from penstock.plan.nodes import SourceNode

router = APIRouter(tags=["catalog"], route_class=GuardedRoute, responses={404: {"model": ProblemShape}})

Search = Annotated[
    str, Query(max_length=500, description="Words that name, type, text, owner or tags must all hold.")
]
KindName = Literal[
    "source",
    "column",
    "view",
    "feature",
    "service",
    "former",
    "model",
    "version",
    "endpoint",
    "monitor",
    "guard",
    "alert",
]


@router.get("/v1/sources", summary="List sources")
def list_sources(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Page[SourceShape]:
    """Sources by name, each with its schema, how many rows the log holds, and how new the newest is."""
    platform = platform_of(request)
    some, after = part(sorted(platform.runtime.plan.sources), str, cursor=cursor, limit=limit)
    found = _sources(platform)
    return Page(items=[found[name] for name in some], next=after)


@router.get("/v1/sources/{source}", summary="Get a source")
def get_source(request: Request, source: str) -> SourceShape:
    """One source, with its schema and how new its newest rows are."""
    platform = platform_of(request)
    if source not in platform.runtime.plan.sources:
        names = ", ".join(platform.runtime.plan.sources)
        raise NotFoundError(f"source {source[:60]!r} does not exist; there are {names}. Choose one of these.")
    return _sources(platform)[source]


@router.get("/v1/catalog", summary="Search what is defined")
def list_entries(
    request: Request,
    search: Search = "",
    kind: Annotated[list[KindName] | None, Query(description="Only of these kinds.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[NodeShape]:
    """Sources, columns, views, features, services, models, versions, endpoints and alerts, with owners and descriptions."""
    nodes = sorted(_graph(request).nodes.values(), key=lambda node: node.id)
    wanted = [node for node in nodes if (not kind or node.kind in kind) and node.matches(search)]
    some, after = part(wanted, lambda node: node.id, cursor=cursor, limit=limit)
    return Page(items=[NodeShape(**node.to_dict()) for node in some], next=after)


@router.get("/v1/catalog/{name}", summary="Get an entry of the catalog")
def get_entry(request: Request, name: str) -> EntryShape:
    """One thing by name, or by `kind:name` where several things have it: its words, its parts, and what is beside it."""
    graph = _graph(request)
    node = graph.find(name)
    own = {node.id, node.of} | {one.id for one in graph.nodes.values() if one.of == node.id}
    sides = {
        side: [one for one in graph.around(node.id, upstream=up, downstream=not up).nodes if one not in own]
        for side, up in (("upstream", True), ("downstream", False))
    }
    parts = [NodeShape(**one.to_dict()) for one in graph.nodes.values() if one.of == node.id]
    return EntryShape(**node.to_dict(), parts=parts, **sides)


@router.get("/v1/lineage", summary="Get the lineage graph")
def get_lineage(
    request: Request,
    of: Annotated[
        str | None, Query(max_length=500, description="Only what leads to this, and what it leads to.")
    ] = None,
    *,
    upstream: Annotated[bool, Query(description="With `of`: what it is made from.")] = True,
    downstream: Annotated[bool, Query(description="With `of`: what is made from it.")] = True,
) -> GraphShape:
    """From the columns of sources through views, features and services to models, endpoints and alerts: nodes and edges."""
    graph = _graph(request)
    if of is not None:
        graph = graph.around(of, upstream=upstream, downstream=downstream)
    return GraphShape(**graph.to_dict())


@router.get("/v1/contracts", summary="List contracts")
def list_contracts(
    request: Request,
    source: Annotated[str | None, Query(max_length=500, description="Only of this source.")] = None,
) -> list[ContractShape]:
    """The versions of the sources' schemas that events were accepted under, and fields that events carry and no schema names."""
    runtime = platform_of(request).runtime
    found = agreements_of(runtime.project, runtime.plan, source)
    return [_contract(one) for one in found]


@router.get(
    "/v1/plan",
    summary="Explain what runs",
    response_model=dict[str, Any],
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_plan(
    request: Request,
    name: Annotated[
        str | None,
        Query(max_length=500, description="Only what this service, view, model or endpoint needs."),
    ] = None,
    as_: Annotated[Literal["json", "text"], Query(alias="format")] = "json",
) -> dict[str, Any] | Response:
    """What the definitions come to, as the engine runs them: sources, views with their windows, services, endpoints."""
    runtime = platform_of(request).runtime
    served = {endpoint.model for endpoint in runtime.plan.endpoints.values()}
    if name in runtime.project.models and name not in served:  # a model that no endpoint serves: its features
        name = runtime.project.models[name].features.name
    found = describe(runtime.plan, name)
    if as_ == "text":
        lines = [f"project {runtime.project.name}", *explain_description(found)]
        return PlainTextResponse("\n".join(lines) + "\n")
    return {"project": runtime.project.name, **found}


def _contract(found: Agreement) -> ContractShape:
    return ContractShape(
        source=found.source,
        versions=[
            AgreedShape(
                number=v.number,
                since=v.since,
                at=from_us(v.at_us),
                text=v.text,
                fields=[FieldShape(**field) for field in v.fields],
            )
            for v in found.versions
        ],
        pending=found.pending,
        refused=list(found.refused),
        unknown=dict(found.unknown),
        every=found.every,
    )


def _graph(request: Request) -> Lineage:
    runtime = platform_of(request).runtime
    return catalog_of(runtime.project, runtime.registry)


def _sources(platform: Platform) -> dict[str, SourceShape]:
    runtime = platform.runtime
    with open_reader(platform.root) as store:
        facts = platform.sources.look(store, runtime.plan.sources, runtime.engine.rows.versions)
    now_us = runtime.clock.now_us()
    return {name: _source(node, facts[name], now_us) for name, node in runtime.plan.sources.items()}


def _source(node: SourceNode, facts: SourceFacts, now_us: int) -> SourceShape:
    received = facts.received_us
    return SourceShape(
        name=node.name,
        fields=[FieldShape(name=f.name, type=f.dtype.name, optional=f.optional) for f in node.fields],
        time_field=node.time_field,
        id_field=node.id_field,
        label_of=node.label_of,
        is_batch=node.is_batch,
        rows=facts.rows,
        newest_event=None if facts.newest_us is None else from_us(facts.newest_us),
        received=None if received is None else from_us(received),
        age_s=None if received is None else max(now_us - received, 0) / 1e6,
    )
