"""The topics of a project's sources, as inputs of a run: one for each partition, merged by event time as files are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from penstock.connectors.kafka import KafkaReader, Partition, behind
from penstock.connectors.kafka_schemas import problems_of
from penstock.connectors.kafka_values import Values, decode, values_of
from penstock.core.errors import PenstockError, PlanError, StoreError, UnreachableError
from penstock.definitions.kafka_configs import KafkaConfig
from penstock.definitions.sources import LabelSource, StreamSource

if TYPE_CHECKING:
    from confluent_kafka import Message

    from penstock.app.settings import KafkaSettings
    from penstock.definitions.project import Project
    from penstock.engine.contract import Contract, Decoded
    from penstock.plan.nodes import Plan

PATIENCE_S = 0.5
PILE_MESSAGES = 1_024
"""How long a live run waits for a partition of which it is not known whether there is more."""
AGAIN_S = 1.0
FINAL_S = 30.0
"""How long a run that shall read to the end waits for a broker that says nothing."""


@dataclass(slots=True, eq=False)
class KafkaInput:
    """The messages of one partition.

    What the partition has is read before a pass ends, so that what was piled up is merged with other partitions by event time; at its
    end nobody waits for more.

    Parameters
    ----------
    source, partition, reader, values
        Whose events they are, where they lie, and what reads them; `reader` may be shared.
    problems
        Where it is noted, under the source, that reading does not go on.
    """

    source: str
    partition: Partition
    reader: KafkaReader
    values: Values | None
    problems: dict[str, str] = field(default_factory=dict)
    now_s: Callable[[], float] = time.monotonic
    _again_s: float = 0.0

    @property
    def key(self) -> str:
        """See `Input.key`."""
        return f"{self.source}:kafka:{self.partition.topic}:{self.partition.number}"

    @property
    def at_rest(self) -> bool:
        """Whether all that is there was taken."""
        return self.reader.is_at_end(self.partition) and not self._again_s

    @property
    def is_piled_up(self) -> bool:
        """Whether enough waits for a micro-batch that nobody would want larger."""
        return self.reader.count(self.partition) >= PILE_MESSAGES

    def read(
        self, contract: Contract, offset: str | None, *, rows: int, final: bool, stop: Event
    ) -> Iterator[tuple[Decoded, str | None]]:
        """See `Input.read`."""
        if self.now_s() < self._again_s:
            return
        self.reader.read_from(self.partition, _parsed(offset))
        while not stop.is_set():
            found = self.reader.take(self.partition, rows)
            if found:
                decoded = self._decoded(contract, [message.value() for message in found], final=final)
                if decoded is None:
                    return
                yield decoded, str(behind(found[-1]))
            elif not self._more(final=final, stop=stop):
                return

    def follow(
        self, contract: Contract, offset: str | None, *, rows: int, stop: Event
    ) -> Iterator[tuple[Decoded, str] | None]:
        """As `read` gives them, without end: None where nothing is there now."""
        self.reader.read_from(self.partition, _parsed(offset))
        found: list[Message] = []
        while not stop.is_set():
            if not found and (self.now_s() < self._again_s or not self._more(final=False, stop=stop)):
                yield None
                continue
            found = found or self.reader.take(self.partition, rows)
            decoded = None
            if found and self.now_s() >= self._again_s:
                decoded = self._decoded(contract, [message.value() for message in found], final=False)
            if decoded is None:
                yield None
                continue
            yield decoded, str(behind(found[-1]))
            found = []

    def _more(self, *, final: bool, stop: Event) -> bool:
        """Wait until there is more, or the partition's end; whether there may be more."""
        give_up = self.now_s() + (FINAL_S if final else PATIENCE_S)
        while not self.reader.is_at_end(self.partition) and not stop.is_set():
            self.reader.wait(self.partition, 0.05)
            if self.reader.has(self.partition):
                return True
            if self.now_s() > give_up:
                if final:
                    raise UnreachableError(
                        f"source {self.source!r}: topic {self.partition.topic!r}, partition {self.partition.number} gives neither messages nor "
                        f"its end for {FINAL_S:g} s ({self.reader.problem or 'no error is known'}). Start the broker, and run again."
                    )
                return False
        return self.reader.has(self.partition)

    def _decoded(self, contract: Contract, found: list[bytes | None], *, final: bool) -> Decoded | None:
        """The events of messages; None where the schema registry is away, and they are to be read again later."""
        try:
            decoded = decode(contract, self.values, found)
        except UnreachableError as error:
            if final:
                raise
            self.problems[self.source] = str(error)
            self._again_s = self.now_s() + AGAIN_S
            return None
        if self._again_s:
            self._again_s = 0.0
            self.problems.pop(self.source, None)
        return decoded


def kafka_sources(project: Project, plan: Plan) -> dict[str, KafkaConfig]:
    """The sources of the plan that are read from Kafka, and how."""
    definitions: dict[str, StreamSource | LabelSource] = {**project.sources, **project.label_sources}
    configs = {name: definitions[name].stream_config for name in plan.sources if name in definitions}
    return {name: config for name, config in configs.items() if isinstance(config, KafkaConfig)}


def kafka_inputs(
    project: Project, plan: Plan, settings: KafkaSettings, problems: dict[str, str]
) -> list[KafkaInput]:
    """The partitions of all topics of the plan's sources; raises `InputError` where a topic cannot be read."""
    found: list[KafkaInput] = []
    try:
        for name, config in kafka_sources(project, plan).items():
            reader = reader_of(name, config, settings)
            values = values_of(config, project.root, registry_settings(config, settings))
            one = [KafkaInput(name, place, reader, values, problems) for place in places_of(reader, config)]
            found += one
    except PenstockError:
        close(found)
        raise
    return found


@contextmanager
def reading(inputs: Iterable[object]) -> Iterator[None]:
    """While open, the topics among `inputs` are read; their connections are closed at the end."""
    try:
        yield
    finally:
        close(one for one in inputs if isinstance(one, KafkaInput))


def close(inputs: Iterable[KafkaInput]) -> None:
    """End the reading of `inputs`."""
    for reader in {id(one.reader): one.reader for one in inputs}.values():
        reader.close()


def reader_of(source: str, config: KafkaConfig, settings: KafkaSettings) -> KafkaReader:
    """What reads the topics of a source."""
    return KafkaReader(client_settings(config, settings), owner=f"source {source!r}")


def places_of(reader: KafkaReader, config: KafkaConfig) -> list[Partition]:
    """All partitions of a source's topics."""
    return [Partition(topic, n) for topic in config.topic_names for n in reader.partitions(topic)]


def client_settings(config: KafkaConfig, settings: KafkaSettings) -> dict[str, str]:
    """Settings of librdkafka: the definition's, then the project's."""
    return {
        "bootstrap.servers": settings.bootstrap_servers or config.kafka_bootstrap_servers,
        "security.protocol": config.security_protocol,
        **dict(config.options),
        **{name: value.get_secret_value() for name, value in settings.options.items()},
    }


def registry_settings(config: KafkaConfig, settings: KafkaSettings) -> dict[str, Any]:
    """Settings of the registry's client: the definition's address, then the project's."""
    url = settings.schema_registry_url or config.schema_registry_url
    given = {name: value.get_secret_value() for name, value in settings.schema_registry_options.items()}
    return {"url": url, **given}


def check_schemas(project: Project, plan: Plan, settings: KafkaSettings) -> None:
    """Raise unless what topics hold can be read as the schemas of their sources; JSON is looked at as it comes.

    Raises
    ------
    PlanError
        A schema does not fit, with every difference.
    UnreachableError
        The schema registry does not answer.
    """
    found = []
    for name, config in kafka_sources(project, plan).items():
        registry = registry_settings(config, settings)
        problems = problems_of(config, plan.sources[name].fields, project.root, registry)
        found += [f"source {name!r}: {problem}" for problem in problems]
    if found:
        raise PlanError(
            "\n".join(found)
            + "\nChange the source's schema (Field(..., optional=True) for what may be missing), or the topic's."
        )


def messages_behind(inputs: Iterable[object]) -> dict[str, int]:
    """By source that is read from Kafka how many messages its topics have that were not taken yet, as far as is known."""
    readers = {one.source: one.reader for one in inputs if isinstance(one, KafkaInput)}
    return {source: sum(reader.lag().values()) for source, reader in readers.items()}


def _parsed(offset: str | None) -> int | None:
    if offset is None:
        return None
    try:
        return int(offset)
    except ValueError as error:
        raise StoreError(
            f"offset {offset[:80]!r}: it is not one of a Kafka partition. Upgrade Penstock, or start a new project."
        ) from error
