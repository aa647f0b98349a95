"""Sources: where events come from, and the schema that they promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from penstock.core.errors import DefinitionError
from penstock.core.time import LONGEST
from penstock.core.types import Field, Timestamp, check_name
from penstock.definitions.batch_configs import BatchConfig, FileConfig, check_batch_config
from penstock.definitions.entities import fields_of
from penstock.definitions.kafka_configs import KafkaConfig
from penstock.definitions.postgres_stream_configs import PostgresStreamConfig
from penstock.definitions.tags import Tags, tags_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.definitions.batch_sources import BatchSource

DEFAULT_LATENESS = timedelta(hours=1)
DEFAULT_FUTURE_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class PushConfig:
    """Events are pushed: by ``source.ingest(...)``, the command line, or HTTP.

    Parameters
    ----------
    timestamp_field
        The column with the event time; needed only where the schema has several Timestamp fields.
    """

    timestamp_field: str | None = None


StreamConfig = PushConfig | FileConfig | KafkaConfig | PostgresStreamConfig

CardNumbers = Literal["refuse", "tokenise", "keep"]
"""What happens to an event with the number of a payment card."""


@dataclass(frozen=True, slots=True, init=False)
class StreamSource:
    """A stream of events with a schema.

    Parameters
    ----------
    name
        The source's name.
    stream_config
        How events arrive: `PushConfig`, `FileConfig`, `KafkaConfig` or `PostgresStreamConfig`.
    schema
        The columns of an event. An event with a missing or mistyped column becomes a dead letter; unknown
        columns are ignored.
    event_id_field
        The column that identifies an event. An event whose id was seen is a duplicate and is answered with the
        stored decision. Without it the log assigns ids, and duplicates cannot be detected.
    timestamp_field
        The column with the event time, if the schema has several Timestamp fields.
    allowed_lateness
        How much older than its key's newest event an event may be and still enter the features.
    max_future_skew
        How far ahead of the clock an event may be; later ones are rejected (live streams only).
    batch_config
        Where the stream's history lies: a table with the same columns, which enters the log once, without decisions,
        before the first event. What the stream repeats of it is a duplicate; where there is no `event_id_field`, events up
        to the history's newest time are refused.
    card_numbers
        What happens to an event in which a text or a number holds the number of a payment card. ``"refuse"``: it becomes a dead letter in
        which the number is masked. ``"tokenise"``: in texts a token takes its place, the same for the same card, made with a key
        that the project's ``.penstock`` holds. ``"keep"``: nothing; choose it where numbers of 14 to 19 digits are something else.

    Examples
    --------
    >>> from penstock.types import Field, Float64, String, Timestamp
    >>> payments = StreamSource(
    ...     name="payments",
    ...     stream_config=PushConfig(),
    ...     schema=[Field("user_id", String), Field("timestamp", Timestamp), Field("amount", Float64)],
    ... )
    >>> payments.time_field
    'timestamp'
    """

    name: str
    stream_config: StreamConfig
    schema: tuple[Field, ...]
    event_id_field: str | None
    time_field: str
    allowed_lateness: timedelta
    max_future_skew: timedelta
    batch_config: BatchConfig | None
    card_numbers: CardNumbers
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        stream_config: StreamConfig,
        *,
        batch_config: BatchConfig | None = None,
        schema: Sequence[Field],
        event_id_field: str | None = None,
        timestamp_field: str | None = None,
        allowed_lateness: timedelta = DEFAULT_LATENESS,
        max_future_skew: timedelta = DEFAULT_FUTURE_SKEW,
        card_numbers: CardNumbers = "refuse",
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"StreamSource {check_name(name, what='StreamSource')!r}"
        check_stream_config(stream_config, owner=what)
        fields = fields_of(schema, owner=what, argument="schema")
        _check_key_field(stream_config, [f.name for f in fields], owner=what)
        check_not_negative(allowed_lateness, owner=what, argument="allowed_lateness")
        allowed_lateness = _lateness(stream_config, allowed_lateness, owner=what)
        check_not_negative(max_future_skew, owner=what, argument="max_future_skew")
        check_card_numbers(card_numbers, owner=what)
        _check_id_field(event_id_field, fields, owner=what)
        time_field = find_time_field(timestamp_field or stream_config.timestamp_field, fields, owner=what)
        if batch_config is not None:
            check_batch_config(batch_config, owner=what)
            _check_no_delay(batch_config, owner=what)
        values = (
            ("name", name),
            ("stream_config", stream_config),
            ("batch_config", batch_config),
            ("schema", fields),
            ("event_id_field", event_id_field),
            ("time_field", time_field),
            ("allowed_lateness", allowed_lateness),
            ("max_future_skew", max_future_skew),
            ("card_numbers", card_numbers),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)

    def ingest(
        self, events: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, dry_run: bool = False
    ) -> Any:
        """Push events into the running project; see `penstock.app.ingest`."""
        from penstock.definitions.actions import ingest

        return ingest(self, events, dry_run=dry_run)


@dataclass(frozen=True, slots=True, init=False)
class RequestSource:
    """Columns that come with the request itself, for realtime feature views.

    When an event is scored, the request is the event.
    """

    schema: tuple[Field, ...]
    name: str

    def __init__(self, schema: Sequence[Field], *, name: str = "request") -> None:
        check_name(name, what="RequestSource")
        fields = fields_of(schema, owner=f"RequestSource {name!r}", argument="schema")
        object.__setattr__(self, "schema", fields)
        object.__setattr__(self, "name", name)


@dataclass(frozen=True, slots=True, init=False)
class LabelSource:
    """The truth about earlier events of a stream; arrives late, in any order, possibly more than once.

    A label record is ``{event id, label, known_at}``. As a source of a feature view its rows are the labelled
    events' columns together with `label` and `known_at`, and the row's time is `known_at`: a label enters
    a feature when it becomes known. A correction replaces the label for training and metrics; features that were
    served keep the first.

    Parameters
    ----------
    name
        The source's name.
    of
        The labelled stream; it must have an `event_id_field`.
    label
        The label column (Bool, Int or Float).
    known_at
        The column that holds the time at which the label became known.
    """

    name: str
    of: StreamSource
    label: Field
    known_at: str
    stream_config: StreamConfig
    allowed_lateness: timedelta
    max_future_skew: timedelta
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        *,
        of: StreamSource,
        label: Field,
        known_at: str,
        stream_config: StreamConfig | None = None,
        allowed_lateness: timedelta = DEFAULT_LATENESS,
        max_future_skew: timedelta = DEFAULT_FUTURE_SKEW,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"LabelSource {check_name(name, what='LabelSource')!r}"
        check_name(known_at, what=f"{what}, known_at")
        config = PushConfig() if stream_config is None else stream_config
        check_stream_config(config, owner=what)
        _check_key_field(config, [], owner=what)
        check_not_negative(allowed_lateness, owner=what, argument="allowed_lateness")
        allowed_lateness = _lateness(config, allowed_lateness, owner=what)
        check_not_negative(max_future_skew, owner=what, argument="max_future_skew")
        _check_labelled(of, label, known_at, owner=what)
        values = (
            ("name", name),
            ("of", of),
            ("label", label),
            ("known_at", known_at),
            ("stream_config", config),
            ("allowed_lateness", allowed_lateness),
            ("max_future_skew", max_future_skew),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)

    @property
    def schema(self) -> tuple[Field, ...]:
        """The columns of a label record as it arrives."""
        id_field = next(f for f in self.of.schema if f.name == self.of.event_id_field)
        return (id_field, self.label, Field(self.known_at, Timestamp))

    @property
    def joined_schema(self) -> tuple[Field, ...]:
        """The columns that a feature view over this source sees: the event's, the label, the time known."""
        return (*self.of.schema, self.label, Field(self.known_at, Timestamp))

    @property
    def card_numbers(self) -> CardNumbers:
        """As the labelled stream has it, so that a label finds its event."""
        return self.of.card_numbers

    @property
    def event_id_field(self) -> str:
        """The column that names the labelled event."""
        assert self.of.event_id_field is not None  # checked when built
        return self.of.event_id_field

    @property
    def time_field(self) -> str:
        """The column with the time at which a row counts: `known_at`."""
        return self.known_at

    def ingest(
        self, events: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, dry_run: bool = False
    ) -> Any:
        """Push labels into the running project; see `penstock.app.ingest`."""
        from penstock.definitions.actions import ingest

        return ingest(self, events, dry_run=dry_run)


EventSource: TypeAlias = "StreamSource | LabelSource | BatchSource"


def check_stream_config(config: object, *, owner: str) -> None:
    """Raise unless `config` says how events arrive."""
    if not isinstance(config, StreamConfig):
        raise DefinitionError(
            f"{owner}: stream_config is {config!r}; allowed are PushConfig(), FileConfig(uri, file_format), KafkaConfig(servers, topics) and "
            "PostgresStreamConfig(url, table, cursor). Write PushConfig() where events are sent to Penstock."
        )
    if isinstance(config, FileConfig):
        _check_no_delay(config, owner=owner)


def _check_key_field(config: StreamConfig, columns: Sequence[str], *, owner: str) -> None:
    name = config.key_field if isinstance(config, KafkaConfig) else None
    if name is not None and name not in columns:
        found = (
            f"allowed are columns of the schema: {', '.join(columns)}"
            if columns
            else "labels have the key of their event"
        )
        raise DefinitionError(
            f"{owner}: key_field of its KafkaConfig is {name!r}; {found}. Name the column that keys the messages, or leave it out."
        )


def _lateness(config: StreamConfig, given: timedelta, *, owner: str) -> timedelta:
    """How late events may be: as the source says, or its `KafkaConfig`."""
    named = config.watermark_delay_threshold if isinstance(config, KafkaConfig) else None
    if named is not None and given not in {DEFAULT_LATENESS, named}:
        raise DefinitionError(
            f"{owner}: allowed_lateness is {given}, and its KafkaConfig has a watermark_delay_threshold of {named}; allowed is one of "
            "the two. Leave one out."
        )
    return given if named is None else named


def _check_no_delay(config: BatchConfig, *, owner: str) -> None:
    if config.data_delay:
        raise DefinitionError(
            f"{owner}: its {type(config).__name__} has a data_delay of {config.data_delay}, but an event of a stream counts from "
            "its own time on; allowed is none. Leave it out, or make it a BatchSource."
        )


def check_not_negative(value: object, *, owner: str, argument: str) -> None:
    """Raise unless `value` is a timedelta of at least zero."""
    if not isinstance(value, timedelta) or not timedelta(0) <= value <= LONGEST:
        raise DefinitionError(
            f"{owner}: {argument} is {value!r}; allowed is a timedelta from zero to {LONGEST.days} days. Write for "
            "example timedelta(hours=1)."
        )


def check_card_numbers(value: object, *, owner: str) -> None:
    """Raise unless `value` says what happens to card numbers."""
    if value not in get_args(CardNumbers):
        raise DefinitionError(
            f"{owner}: card_numbers is {value!r}; allowed are {', '.join(map(repr, get_args(CardNumbers)))}. Leave it out to refuse them."
        )


def find_time_field(name: str | None, fields: Sequence[Field], *, owner: str) -> str:
    """The name of the event time's field, which every event has: `name` if given, else the schema's only one."""
    times = [field.name for field in fields if field.dtype is Timestamp and not field.optional]
    if name is None and len(times) == 1:
        return times[0]
    if name in times:
        return str(name)
    found = "none is named" if name is None else f"timestamp_field is {name!r}"
    if not times:
        raise DefinitionError(
            f"{owner}: {found}, and the schema has no Timestamp field that is required; allowed is one that every event has. "
            'Add one: Field("timestamp", Timestamp).'
        )
    raise DefinitionError(
        f"{owner}: {found}; allowed are the schema's required Timestamp fields: {', '.join(times)}. Name one: "
        f'timestamp_field="{times[0]}".'
    )


def _check_id_field(name: str | None, fields: Sequence[Field], *, owner: str) -> None:
    if name is None:
        return
    allowed = [f.name for f in fields if f.dtype.kind in {"text", "int"} and not f.optional]
    if name not in allowed:
        raise DefinitionError(
            f"{owner}: event_id_field is {name!r}; allowed are the required String and Int fields of the schema: "
            f"{', '.join(allowed) or 'there is none'}. Name one, or add the column to the schema."
        )


def _check_labelled(of: object, label: object, known_at: str, *, owner: str) -> None:
    if not isinstance(of, StreamSource):
        raise DefinitionError(
            f"{owner}: of is {of!r}; allowed is a StreamSource. Give the one whose events are labelled."
        )
    if of.event_id_field is None:
        raise DefinitionError(
            f"{owner}: StreamSource {of.name!r} has no event_id_field, so labels cannot be joined to its events; "
            f'allowed is a stream with one. Give it one: StreamSource(..., event_id_field="transaction_id").'
        )
    if not isinstance(label, Field) or label.dtype.kind not in {"bool", "int", "float"}:
        raise DefinitionError(
            f"{owner}: label is {label!r}; allowed is a Field of type Bool, Int or Float. "
            'Write for example Field("is_fraud", Bool).'
        )
    if known_at == label.name:
        raise DefinitionError(
            f"{owner}: known_at is {known_at!r}, which is the label's own column; allowed is another name. Name the "
            "column that holds the time at which the label became known."
        )
    taken = {field.name for field in of.schema}
    for name in (label.name, known_at):
        if name in taken:
            raise DefinitionError(
                f"{owner}: {name!r} is already a column of {of.name!r}; allowed is another name, since a label must not "
                "be known with its event. Rename the label's column, or take it out of the stream's schema."
            )
