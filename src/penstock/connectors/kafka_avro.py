"""Avro messages in Confluent's frame: each is read by the schema that it was written with, which a registry keeps.

A schema never changes, so it is asked for once. While the registry does not answer, reading waits: the message is not at fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

from penstock.connectors.kafka_values import FRAME_BYTES, frame
from penstock.core.errors import ContractError, MissingDependencyError, UnreachableError

Fetch = Callable[[int], str]
"""The text of a schema by its number; raises `LookupError` where there is none, `UnreachableError` where nobody answers."""

NOT_FOUND = 404
_PLAIN = {"timestamp-micros", "local-timestamp-micros"}
"""Logical types that stay whole numbers: microseconds are what an event time is."""


class AvroValues:
    """Reads Avro messages.

    Parameters
    ----------
    fetch
        Gives the text of a schema.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._schemas: dict[int, Any] = {}

    def records(self, values: Sequence[bytes]) -> list[Mapping[str, Any] | ContractError]:
        """See `penstock.connectors.kafka_values.Values`."""
        joined = BytesIO(b"".join(values))
        found: list[Mapping[str, Any] | ContractError] = []
        start = 0
        for value in values:
            joined.seek(start + FRAME_BYTES)
            start += len(value)
            try:
                found.append(self._record(value, joined, start))
            except ContractError as error:
                found.append(error)
        return found

    def _record(self, value: bytes, joined: BytesIO, end: int) -> Mapping[str, Any]:
        number = frame(value)
        schema = self._schemas.get(number)
        if schema is None:
            schema = self._schemas[number] = self._schema(number)
        if isinstance(schema, ContractError):
            raise schema
        import fastavro

        try:
            record = fastavro.schemaless_reader(joined, schema, None)
        except Exception as error:
            # What fastavro raises on bytes that are not of the schema is not documented: EOFError, IndexError, UnicodeDecodeError, ...
            raise ContractError(
                "undecodable", f"not a record of schema {number}: {type(error).__name__}: {str(error)[:200]}"
            ) from error
        if joined.tell() != end:
            raise ContractError(
                "undecodable",
                f"not a record of schema {number}: its bytes and the schema end at other places",
            )
        if not isinstance(record, dict):
            raise ContractError(
                "not_an_object", f"a {type(record).__name__} of schema {number} where a record should stand"
            )
        return record

    def _schema(self, number: int) -> Any:
        """The schema with this number, ready to read with, or why no message can be read with it."""
        import fastavro

        try:
            return fastavro.parse_schema(_without_micros(json.loads(self._fetch(number))))
        except LookupError:
            return ContractError("undecodable", f"the registry has no schema {number}")
        except (ValueError, fastavro.schema.SchemaParseException) as error:
            return ContractError("undecodable", f"schema {number} is no Avro schema: {str(error)[:200]}")


def _without_micros(schema: Any) -> Any:
    """`schema` in which microseconds are whole numbers."""
    if isinstance(schema, list):
        return [_without_micros(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("logicalType") in _PLAIN:
        return schema["type"]
    return {
        name: _without_micros(part) if name in {"type", "fields", "items", "values"} else part
        for name, part in schema.items()
    }


def schemas_of(settings: Mapping[str, str]) -> Fetch:
    """What asks the registry of `settings` (of Confluent's client) for schemas."""
    client, error_type = registry_client(settings)

    def fetch(number: int) -> str:
        try:
            return str(client.get_schema(number).schema_str)
        except error_type as error:
            if error.http_status_code == NOT_FOUND:
                raise LookupError(number) from error
            raise unreachable(settings, error) from error
        except Exception as error:  # its HTTP library is its own choice, and so are that one's errors
            raise unreachable(settings, error) from error

    return fetch


def registry_client(settings: Mapping[str, str]) -> tuple[Any, type[Any]]:
    """Confluent's client, and the error that it raises on an answer that is none."""
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
        from confluent_kafka.schema_registry.error import SchemaRegistryError
    except ImportError as error:
        raise MissingDependencyError(
            "KafkaConfig: the schema registry's client is not installed. Run: pip install 'penstock[kafka]'."
        ) from error
    return SchemaRegistryClient({"timeout": 2.0, "max.retries": 0, **settings}), SchemaRegistryError


def unreachable(settings: Mapping[str, str], error: Exception) -> UnreachableError:
    """What is raised where the registry does not answer as it should."""
    return UnreachableError(
        f"schema registry {settings['url'].rpartition('@')[2]}: it does not answer as it should ({type(error).__name__}: {str(error)[:200]}). Start it, or "
        "correct schema_registry_url of KafkaConfig or of [kafka]."
    )
