"""Where the events of a stream lie in Kafka, and how their bytes are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.core.time import LONGEST
from penstock.definitions.tags import Tags

VALUE_FORMATS = ("json", "avro", "protobuf")
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_SECRET = ("password", "secret", "pem", "sasl.username", "user.info", "token", "sasl.oauthbearer.config")
_OURS = (
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "security.protocol",
)


@dataclass(frozen=True, slots=True, init=False)
class KafkaConfig:
    """Events are read from a Kafka topic; needs ``penstock[kafka]``.

    A message is an event. Its key should be the entity's (the card, say), so that the events of an entity stand in one partition, in order.
    What cannot be read becomes a dead letter with its bytes. Only messages of committed transactions are read. Secrets are no part of a
    definition: they stand in the settings of ``[kafka]``, best as environment variables (see docs/kafka.md).

    Parameters
    ----------
    kafka_bootstrap_servers
        ``"host:port"``, several with commas between. The setting ``bootstrap_servers`` of ``[kafka]`` takes its place.
    topics
        The topic's name, or several with commas between.
    timestamp_field
        The column with the event time; needed only where the schema has several Timestamp fields.
    key_field
        The column whose value is the key of the messages. Needed only where views have several entities, or where messages are keyed by
        none of theirs: workers refuse views whose keys are spread over partitions.
    watermark_delay_threshold
        The source's `allowed_lateness`, by the name that Tecton has for it.
    options
        Settings of librdkafka, such as ``{"fetch.max.bytes": "1048576"}``. ``auto.offset.reset`` (``"earliest"``, the default, or
        ``"latest"``) says where reading begins at first.
    security_protocol
        ``"PLAINTEXT"`` (the default), ``"SSL"``, ``"SASL_PLAINTEXT"`` or ``"SASL_SSL"``.
    value_format
        ``"json"``; ``"avro"``, framed as Confluent's serializers do, its schemas in a registry; or ``"protobuf"``.
    schema_registry_url
        The registry's address: needed for Avro. With Protobuf it says that messages carry the frame of Confluent's serializers.
    descriptor_file, message
        For Protobuf: a file that ``protoc --include_imports --descriptor_set_out`` made, seen from the project folder, and the message's
        full name.

    Examples
    --------
    >>> KafkaConfig("broker:9092", "payments", value_format="json").topic_names
    ('payments',)
    """

    kafka_bootstrap_servers: str
    topics: str
    timestamp_field: str | None
    key_field: str | None
    watermark_delay_threshold: timedelta | None
    options: Tags
    security_protocol: str
    value_format: str
    schema_registry_url: str | None
    descriptor_file: str | None
    message: str | None
    topic_names: tuple[str, ...] = field(compare=False)

    def __init__(
        self,
        kafka_bootstrap_servers: str,
        topics: str,
        *,
        timestamp_field: str | None = None,
        key_field: str | None = None,
        watermark_delay_threshold: timedelta | None = None,
        options: Mapping[str, str] | None = None,
        security_protocol: str = "PLAINTEXT",
        value_format: str = "json",
        schema_registry_url: str | None = None,
        descriptor_file: str | None = None,
        message: str | None = None,
    ) -> None:
        given: object = topics
        names = tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else ()
        if not names or not all(names) or len(set(names)) < len(names):
            raise DefinitionError(
                f'KafkaConfig: topics is {topics!r}; allowed are names of topics, each once. Write for example "payments".'
            )
        values = (
            ("kafka_bootstrap_servers", kafka_bootstrap_servers),
            ("topics", topics),
            ("timestamp_field", timestamp_field),
            ("key_field", key_field),
            ("watermark_delay_threshold", watermark_delay_threshold),
            ("options", _options(options, owner=f"KafkaConfig {topics!r}")),
            ("security_protocol", security_protocol),
            ("value_format", value_format),
            ("schema_registry_url", schema_registry_url),
            ("descriptor_file", descriptor_file),
            ("message", message),
            ("topic_names", names),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)
        _check(self)


def _options(options: object, *, owner: str) -> Tags:
    """`options` as sorted pairs; raises `DefinitionError` for those that are secret, or not the user's to set."""
    found: object = {} if options is None else options
    if not isinstance(found, Mapping) or not all(isinstance(t, str) for pair in found.items() for t in pair):
        raise DefinitionError(
            f'{owner}: options is {_kind(options)}; allowed is a dict of texts. Write for example {{"fetch.max.bytes": "1048576"}}.'
        )
    for name in found:
        if any(part in name for part in _SECRET):
            raise DefinitionError(
                f"{owner}: options has {name!r}, and a definition must hold no secret. Set it in the environment: "
                f'PENSTOCK_KAFKA__OPTIONS=\'{{"{name}": "…"}}\'.'
            )
        if name in _OURS:
            raise DefinitionError(
                f"{owner}: options has {name!r}, which Penstock sets itself, since offsets are committed with the decisions. Leave it out."
            )
    if found.get("auto.offset.reset", "earliest") not in {"earliest", "latest"}:
        raise DefinitionError(
            f"{owner}: auto.offset.reset is {found['auto.offset.reset']!r}; allowed are 'earliest' and 'latest'. Choose one."
        )
    return tuple(sorted(found.items()))


def _kind(value: object) -> str:
    """What `value` is, without what it may hold."""
    return f"a {type(value).__name__}"


def _check(config: KafkaConfig) -> None:
    owner = f"KafkaConfig {config.topics!r}"
    delay: object = config.watermark_delay_threshold
    servers: object = config.kafka_bootstrap_servers
    if not isinstance(servers, str) or not servers.strip():
        raise DefinitionError(
            f'{owner}: kafka_bootstrap_servers is {servers!r}; allowed is "host:port". Name a broker.'
        )
    if delay is not None and (not isinstance(delay, timedelta) or not timedelta(0) <= delay <= LONGEST):
        raise DefinitionError(
            f"{owner}: watermark_delay_threshold is {delay!r}; allowed is a timedelta from zero to {LONGEST.days} days. Write for "
            "example timedelta(hours=1)."
        )
    if config.security_protocol not in PROTOCOLS:
        raise DefinitionError(
            f"{owner}: security_protocol is {config.security_protocol!r}; allowed are {', '.join(PROTOCOLS)}. Choose one."
        )
    if config.value_format not in VALUE_FORMATS:
        raise DefinitionError(
            f"{owner}: value_format is {config.value_format!r}; allowed are {', '.join(VALUE_FORMATS)}. Choose one."
        )
    if "@" in (config.schema_registry_url or ""):
        raise DefinitionError(
            f"{owner}: schema_registry_url names a user, and a definition must hold no secret. Set it in the environment: "
            'PENSTOCK_KAFKA__SCHEMA_REGISTRY_OPTIONS=\'{"basic.auth.user.info": "…"}\'.'
        )
    if config.value_format == "avro" and not config.schema_registry_url:
        raise DefinitionError(
            f"{owner}: its values are Avro, and schema_registry_url is missing; their schemas stand in a registry. Name its address."
        )
    if (config.value_format == "protobuf") != bool(config.descriptor_file and config.message):
        raise DefinitionError(
            f"{owner}: value_format is {config.value_format!r}, descriptor_file {config.descriptor_file!r} and message {config.message!r}; "
            "Protobuf needs both, and nothing else may have them. Make the file: protoc --include_imports --descriptor_set_out=FILE."
        )
