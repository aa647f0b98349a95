"""What the reader of stored decisions needs of a plan, as JSON: sources, endpoints, and the keys that services look up.

The plan in force is the engine's. A process that only reads is told it, and need not load a project, whose files may do anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from penstock.core.types import TYPES_BY_NAME, Array, DataType, Field
from penstock.plan.nodes import SourceNode

if TYPE_CHECKING:
    from penstock.plan.nodes import Plan


class _Source(msgspec.Struct):
    fields: list[tuple[str, str, bool]]
    time_field: str
    id_field: str | None
    given: list[tuple[str, str]]


class _Endpoint(msgspec.Struct):
    source: str
    service: str


class _Plan(msgspec.Struct):
    sources: dict[str, _Source]
    endpoints: dict[str, _Endpoint]
    key_columns: dict[str, list[list[str]]]
    """Of each service, a list for each of its lookups."""


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Plan)


@dataclass(frozen=True, slots=True)
class ReadEndpoint:
    """An endpoint: its name, the stream whose events it decides on, and its feature service."""

    name: str
    source: str
    service: str


@dataclass(frozen=True, slots=True)
class ReadLookup:
    """The columns by which a view is looked up."""

    key_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadService:
    """A feature service."""

    lookups: tuple[ReadLookup, ...]


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """As much of a `Plan` as `penstock.app.decision_list` reads by."""

    sources: dict[str, SourceNode]
    endpoints: dict[str, ReadEndpoint]
    services: dict[str, ReadService]


def encoded(plan: Plan) -> bytes:
    """A plan's JSON."""
    return _encode(
        _Plan(
            {name: _source(node) for name, node in plan.sources.items()},
            {name: _Endpoint(node.source, node.service) for name, node in plan.endpoints.items()},
            {
                name: [list(lookup.key_columns) for lookup in node.lookups]
                for name, node in plan.services.items()
            },
        )
    )


def decoded(body: bytes) -> ReadingPlan:
    """What `encoded` made."""
    found = _decoder.decode(body)
    return ReadingPlan(
        {name: _node(name, one) for name, one in found.sources.items()},
        {name: ReadEndpoint(name, one.source, one.service) for name, one in found.endpoints.items()},
        {
            name: ReadService(tuple(ReadLookup(tuple(columns)) for columns in lookups))
            for name, lookups in found.key_columns.items()
        },
    )


def _source(node: SourceNode) -> _Source:
    fields = [(one.name, one.dtype.name, one.optional) for one in node.fields]
    return _Source(fields, node.time_field, node.id_field, [(name, of.name) for name, of in node.given])


def _node(name: str, one: _Source) -> SourceNode:
    fields = tuple(Field(field, TYPES_BY_NAME[of], optional) for field, of, optional in one.fields)
    given = tuple((feature, _type(of)) for feature, of in one.given)
    return SourceNode(name, fields, one.time_field, one.id_field, 0, 0, given=given)


def _type(name: str) -> DataType:
    inner = name.removeprefix("Array(").removesuffix(")")
    return TYPES_BY_NAME[name] if inner == name else Array(TYPES_BY_NAME[inner])
