"""What the shards of a project compute: the project's own plan, or one of its stages'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.app.kafka_inputs import kafka_sources
from penstock.app.runtime import plan_of
from penstock.core.errors import InputError, NotFoundError
from penstock.plan.stages import Stage, stages_of

if TYPE_CHECKING:
    from penstock.app.settings import Settings
    from penstock.definitions.project import Project
    from penstock.plan.nodes import Plan


def main_stream(project: Project, plan: Plan) -> str:
    """The one stream whose topic workers share out; raises `InputError` where there is none, or several."""
    streams = [name for name in kafka_sources(project, plan) if plan.sources[name].label_of is None]
    if len(streams) != 1:
        raise InputError(
            f"worker: of the project's streams {', '.join(streams) or 'none'} come from Kafka; allowed is one (and labels of it), whose "
            "partitions are shards. Give it a KafkaConfig, or use penstock up."
        )
    return streams[0]


def project_stages(project: Project, plan: Plan, settings: Settings) -> tuple[Stage, ...]:
    """The stages of a project's workers; none where its events are not sent on."""
    following = settings.kafka.repartition_by
    if not following:
        return ()
    source = main_stream(project, plan)
    key = kafka_sources(project, plan)[source].key_field
    if key is None:
        raise InputError(
            f"worker: repartition_by of [kafka] names {', '.join(following)}, and the KafkaConfig of {source!r} has no key_field. Name the column "
            "that keys the topic's messages."
        )
    return stages_of(plan, source, [key, *following])


def shard_plan(project: Project, settings: Settings, shard: str) -> Plan:
    """What the shard of this name computes; "" is the project that is whole.

    Raises `NotFoundError` where a project whose events are sent on has no such stage.
    """
    plan = plan_of(project)
    stages = project_stages(project, plan, settings) if shard else ()
    if not stages:
        return plan
    for stage in stages:
        if stage.column == shard.rpartition("-")[0]:
            return stage.plan
    columns = ", ".join(f"{stage.column}-NUMBER" for stage in stages)
    raise NotFoundError(f"shard {shard!r} does not exist; there are {columns}.")
