"""Whether the newest schema of a topic can be read as its source's schema: what `penstock apply` asks before anything is in force."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.connectors.kafka_avro import NOT_FOUND, registry_client, unreachable
from penstock.core.types import Field
from penstock.definitions.kafka_configs import KafkaConfig

_AVRO = {
    "text": {"string", "enum"},
    "int": {"int", "long"},
    "float": {"float", "double", "int", "long"},
    "bool": {"boolean"},
    "time": {"long", "string", "timestamp-micros", "timestamp-millis"},
}
_PROTOBUF = {
    "text": {"string", "enum"},
    "int": {"int32", "int64", "uint32", "sint32", "sint64", "fixed32", "sfixed32", "sfixed64"},
    "float": {"float", "double", "int32", "int64", "uint32", "sint32", "sint64"},
    "bool": {"bool"},
    "time": {"int64", "sint64", "sfixed64", "string", "google.protobuf.Timestamp"},
}
_LOGICAL = {"timestamp-micros", "timestamp-millis"}


def problems_of(
    config: KafkaConfig, fields: Sequence[Field], root: Path, registry: Mapping[str, str]
) -> list[str]:
    """Why messages of a topic will not be read as `fields`, one text each; empty where they will, and for JSON.

    Parameters
    ----------
    registry
        Settings of the registry's client.

    Raises
    ------
    UnreachableError
        The registry does not answer.
    InputError
        The descriptor file has no such message.
    """
    if config.value_format == "json":
        return []
    if config.value_format == "protobuf":
        return _differences(
            _protobuf_types(config, root), fields, _PROTOBUF, where=f"message {config.message}"
        )
    found = []
    for topic in config.topic_names:
        text = _newest(f"{topic}-value", registry)
        if text is None:
            found.append(f"the registry has no schema under {topic}-value; register the producer's")
        else:
            found += _differences(_avro_types(json.loads(text)), fields, _AVRO, where=f"schema {topic}-value")
    return found


def _newest(subject: str, registry: Mapping[str, str]) -> str | None:
    client, error_type = registry_client(registry)
    try:
        return str(client.get_latest_version(subject).schema.schema_str)
    except error_type as error:
        if error.http_status_code == NOT_FOUND:
            return None
        raise unreachable(registry, error) from error
    except Exception as error:  # its HTTP library is its own choice, and so are that one's errors
        raise unreachable(registry, error) from error


def _differences(
    types: Mapping[str, set[str]], fields: Sequence[Field], allowed: Mapping[str, set[str]], *, where: str
) -> list[str]:
    found = []
    for field in fields:
        if field.name not in types:
            if not field.optional:
                found.append(f"{where} has no field {field.name!r}, which the source requires")
        elif not types[field.name] <= allowed[field.dtype.kind]:
            wrong = ", ".join(sorted(types[field.name] - allowed[field.dtype.kind]))
            found.append(
                f"{where}: field {field.name!r} is {wrong}, and the source has {field.dtype}; allowed are "
                f"{', '.join(sorted(allowed[field.dtype.kind]))}"
            )
    return found


def _avro_types(schema: Any) -> dict[str, set[str]]:
    """By field what it may be, nulls left out."""
    fields = schema.get("fields", ()) if isinstance(schema, dict) else ()
    return {field["name"]: _names(field["type"]) - {"null"} for field in fields}


def _names(of: Any) -> set[str]:
    if isinstance(of, list):
        return set().union(*map(_names, of))
    if isinstance(of, dict):
        logical = str(of.get("logicalType", "")).removeprefix("local-")
        return {logical} if logical in _LOGICAL else {logical} - {"", "uuid"} or _names(of["type"])
    return {str(of)}


def _protobuf_types(config: KafkaConfig, root: Path) -> dict[str, set[str]]:
    from penstock.connectors.kafka_protobuf import descriptor_of, type_name

    return {field.name: {type_name(field)} for field in descriptor_of(config, root).fields}
