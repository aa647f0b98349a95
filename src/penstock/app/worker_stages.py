"""The stages of a project's workers: one, or where ``[kafka] repartition_by`` says so a chain of them with topics between.

Each has shards of its own and a consumer group that shares them out. The first reads the topics of the project; each other one a topic that Penstock makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.app.partition_keys import check_partition_key, check_read
from penstock.app.runtime import plan_of
from penstock.app.shard_plans import project_stages
from penstock.app.shards import Topics
from penstock.app.stage_inputs import StageInput
from penstock.connectors.kafka import START, KafkaReader, Partition
from penstock.connectors.kafka_stage import ensure_topic
from penstock.core.errors import PenstockError, ProjectError
from penstock.plan.stages import Stage

if TYPE_CHECKING:
    from penstock.app.settings import Settings
    from penstock.definitions.project import Project
    from penstock.plan.nodes import Plan


class StageTopics:
    """The topic that a stage reads from the one before; see `Topics`, whose form it has."""

    def __init__(self, first: Topics, before: Stage, stage: Stage, topic: str) -> None:
        self.main, self.client, self.partitions, self.topic = (
            first.main,
            first.client,
            first.partitions,
            topic,
        )
        self._nodes = {
            name: node for name, node in before.plan.sources.items() if self.main in {name, node.label_of}
        }
        ensure_topic(self.client, topic, partitions=self.partitions)
        settings = {name: value for name, value in self.client.items() if name != START}
        self.readers = {self.main: KafkaReader(settings, owner=f"stage {stage.column!r}")}

    def tell(self, arrived: Callable[[], None]) -> None:
        """Call `arrived` when something comes."""
        self.readers[self.main].tell(arrived)

    def inputs(self, number: int, problems: dict[str, str]) -> list[StageInput]:
        """The input of a shard."""
        return [
            StageInput(
                self.main,
                Partition(self.topic, number),
                self.readers[self.main],
                nodes=self._nodes,
                shards=self.partitions,
                problems=problems,
            )
        ]

    def close(self) -> None:
        """End reading."""
        self.readers[self.main].close()


@dataclass(frozen=True, slots=True, eq=False)
class WorkerStage:
    """A stage, as a worker runs it.

    Attributes
    ----------
    name
        The column that parts its events; empty where there is one stage only.
    topics
        What its shards read.
    group
        The consumer group that shares them out.
    planned
        See `Runtime.open`.
    stage, next_topic
        What the shards compute, and where they send it; None where there is one stage, or no next one.
    """

    name: str
    topics: Topics | StageTopics
    group: str
    planned: Callable[[Project], Plan]
    stage: Stage | None = None
    next_topic: str | None = None

    def shard(self, number: int) -> str:
        """The name of a shard."""
        return f"{self.name}-{number}" if self.name else str(number)


def worker_stages(project: Project, settings: Settings, *, group: str) -> list[WorkerStage]:
    """The stages of a project, the deciding one last; topics between them are made where they are missing.

    Raises
    ------
    InputError
        The topics do not fit, or features would be wrong in their partitions.
    PlanError
        The plan cannot be cut into stages.
    UnreachableError
        No broker answers.
    """
    topics = Topics(project, settings)
    made: list[Topics | StageTopics] = [topics]
    try:
        stages = project_stages(project, topics.plan, settings)
        if not stages:
            return [WorkerStage("", topics, group, _checking(topics))]
        check_read(topics.plan, topics.main, read=topics.configs)
        names = [topic_between(group, stage.column) for stage in stages[1:]]
        for before, stage, name in zip(stages[:-1], stages[1:], names, strict=True):
            made.append(StageTopics(topics, before, stage, name))
    except PenstockError:
        for one in made:
            one.close()
        raise
    return [
        WorkerStage(
            name=stage.column,
            topics=one,
            group=group if one is topics else one.topic,
            planned=_fixed(project, stage.plan),
            stage=stage,
            next_topic=following,
        )
        for stage, one, following in zip(stages, made, [*names, None], strict=True)
    ]


def topic_between(group: str, column: str) -> str:
    """The topic whose messages are parted by `column`.

    >>> topic_between("penstock-my shop", "terminal_id")
    'penstock-my-shop-terminal_id'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{group}-{column}")


def _checking(topics: Topics) -> Callable[[Project], Plan]:
    """Plans of which each partition by itself has what its features need."""

    def planned(project: Project) -> Plan:
        plan = plan_of(project)
        if topics.main in plan.sources:
            check_read(plan, topics.main, read=topics.configs)
            if topics.partitions > 1:
                check_partition_key(plan, topics.main, key=topics.configs[topics.main].key_field)
        return plan

    planned(topics.project)
    return planned


def _fixed(project: Project, plan: Plan) -> Callable[[Project], Plan]:
    """The plan of a stage: all stages change together, so that none hands on what the next does not know."""

    def planned(other: Project) -> Plan:
        if other is not project:
            raise ProjectError(
                "workers that send events on take over other definitions when they start. Start all of them anew"
            )
        return plan

    return planned
