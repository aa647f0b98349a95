"""What the messages of a topic hold: JSON, Avro or Protobuf, made into events by a contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from penstock.core.errors import ContractError
from penstock.definitions.kafka_configs import KafkaConfig

DecodedT = TypeVar("DecodedT")
DecodedT_co = TypeVar("DecodedT_co", covariant=True)
FRAME_BYTES = 5
"""A zero and the schema's number, before what Confluent's serializers write."""


class MessageContract(Protocol[DecodedT_co]):
    """What makes events of messages: `penstock.engine.contract.Contract`."""

    def decode_messages(self, values: Sequence[bytes]) -> DecodedT_co:
        """Messages of JSON."""

    def decode_records(
        self, records: Sequence[Mapping[str, Any] | ContractError], values: Sequence[bytes]
    ) -> DecodedT_co:
        """Dicts that were made of `values`, or why they could not be."""


class Values(Protocol):
    """Reads the values of messages; a refused one is a `ContractError` in its place."""

    def records(self, values: Sequence[bytes]) -> list[Mapping[str, Any] | ContractError]:
        """A dict for each value."""


def values_of(config: KafkaConfig, root: Path, registry: Mapping[str, str]) -> Values | None:
    """What reads the values of a topic; None for JSON, which contracts read themselves.

    Parameters
    ----------
    root
        The project folder, from which `descriptor_file` is seen.
    registry
        Settings of the registry's client.
    """
    if config.value_format == "avro":
        from penstock.connectors.kafka_avro import AvroValues, schemas_of

        return AvroValues(schemas_of(registry))
    if config.value_format == "protobuf":
        from penstock.connectors.kafka_protobuf import ProtobufValues

        return ProtobufValues.of(config, root)
    return None


def decode(
    contract: MessageContract[DecodedT], values: Values | None, found: Sequence[bytes | None]
) -> DecodedT:
    """The events of messages, decoded and checked by `contract`; a message without a value is refused as empty."""
    present = [b"" if value is None else value for value in found]
    if values is None:
        return contract.decode_messages(present)
    return contract.decode_records(values.records(present), present)


def frame(value: bytes) -> int:
    """The number of the schema that a message is framed with; raises `ContractError` where there is no frame."""
    if len(value) < FRAME_BYTES or value[0]:
        found = f"it begins with {value[:FRAME_BYTES].hex(' ')}" if value else "it is empty"
        raise ContractError(
            "undecodable", f"the message is not framed as Confluent's serializers do: {found}"
        )
    return int.from_bytes(value[1:FRAME_BYTES], "big")
