"""Protobuf messages, read by a descriptor that lies in the project folder; fields that it does not know are left alone.

A field with presence (``optional``, or a message) that is absent is null; another one has its default, since Protobuf cannot tell the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.connectors.kafka_values import FRAME_BYTES, frame
from penstock.core.errors import ContractError, InputError, MissingDependencyError
from penstock.definitions.kafka_configs import KafkaConfig

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

_TIMESTAMP = "google.protobuf.Timestamp"
_MOST_INDEX_BYTES = 16

Read = Callable[[Any], Any]


class ProtobufValues:
    """Reads Protobuf messages.

    Parameters
    ----------
    descriptor
        Of the message.
    framed
        Whether messages carry the frame of Confluent's serializers.
    """

    def __init__(self, descriptor: Descriptor, *, framed: bool) -> None:
        from google.protobuf.message_factory import GetMessageClass

        self._parse = GetMessageClass(descriptor).FromString
        self._fields = [(field.name, _reader(field)) for field in descriptor.fields]
        self._framed = framed
        self._name = descriptor.full_name

    @classmethod
    def of(cls, config: KafkaConfig, root: Path) -> ProtobufValues:
        """What reads the messages of a topic; raises `InputError` where the file has no such message."""
        return cls(descriptor_of(config, root), framed=config.schema_registry_url is not None)

    def records(self, values: Sequence[bytes]) -> list[Mapping[str, Any] | ContractError]:
        """See `penstock.connectors.kafka_values.Values`."""
        return [self._record(value) for value in values]

    def _record(self, value: bytes) -> Mapping[str, Any] | ContractError:
        from google.protobuf.message import DecodeError

        try:
            message = self._parse(_without_frame(value) if self._framed else value)
        except ContractError as error:
            return error
        except DecodeError as error:
            return ContractError("undecodable", f"not a {self._name}: {str(error)[:200]}")
        if not value:
            return ContractError("undecodable", "the message is empty")
        return {name: read(message) for name, read in self._fields}


def descriptor_of(config: KafkaConfig, root: Path) -> Descriptor:
    """The descriptor of a topic's message; raises `InputError` where the file has none of this name."""
    try:
        from google.protobuf import descriptor_pool
        from google.protobuf.descriptor_pb2 import FileDescriptorSet
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingDependencyError(
            "KafkaConfig: protobuf is not installed. Run: pip install 'penstock[kafka]'."
        ) from error
    assert config.descriptor_file is not None  # checked when built
    assert config.message is not None
    path = root / config.descriptor_file
    pool = descriptor_pool.DescriptorPool()
    try:
        for file in FileDescriptorSet.FromString(path.read_bytes()).file:
            pool.Add(file)
        return pool.FindMessageTypeByName(config.message)
    except (OSError, DecodeError, TypeError, KeyError) as error:
        raise InputError(
            f"KafkaConfig {config.topics!r}: {config.descriptor_file} does not describe message {config.message!r} ({error}). Make it with "
            "protoc --include_imports --descriptor_set_out=FILE, or correct message."
        ) from error


def type_name(field: FieldDescriptor) -> str:
    """What a field holds, in Protobuf's words."""
    if field.is_repeated:
        return "repeated"
    if field.message_type is not None:
        return str(field.message_type.full_name)
    if field.enum_type is not None:
        return "enum"
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    return str(FieldDescriptorProto.Type.Name(field.type)).removeprefix("TYPE_").lower()


def _reader(field: FieldDescriptor) -> Read:
    name = field.name
    if (
        field.message_type is not None
        and field.message_type.full_name == _TIMESTAMP
        and not field.is_repeated
    ):
        return lambda message: _microseconds(getattr(message, name)) if message.HasField(name) else None
    if field.enum_type is not None and not field.is_repeated:
        numbers = field.enum_type.values_by_number
        return lambda message: _enum_name(numbers, getattr(message, name))
    if field.has_presence:
        return lambda message: getattr(message, name) if message.HasField(name) else None
    return lambda message: getattr(message, name)


def _microseconds(timestamp: Any) -> int:
    return int(timestamp.seconds) * 1_000_000 + int(timestamp.nanos) // 1_000


def _enum_name(numbers: Mapping[int, Any], number: int) -> str | int:
    return str(numbers[number].name) if number in numbers else number


def _without_frame(value: bytes) -> bytes:
    """The message behind the schema's number and the path of the message's type in its file: a count, then so many numbers."""
    frame(value)
    at = FRAME_BYTES
    count, at = _varint(value, at)
    for _ in range(count):
        _, at = _varint(value, at)
    return value[at:]


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """A zigzag number at byte `at`, and where it ends."""
    number = shift = 0
    for end in range(at, min(at + _MOST_INDEX_BYTES, len(value))):
        number |= (value[end] & 0x7F) << shift
        shift += 7
        if not value[end] & 0x80:
            return max((number >> 1) ^ -(number & 1), 0) if number < len(value) * 2 + 2 else 0, end + 1
    raise ContractError("undecodable", "the frame's path of the message's type does not end")
