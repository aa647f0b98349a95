"""Where `penstock live-data --kafka` sends the rows of each source, and under which keys."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from penstock.app.kafka_inputs import client_settings, kafka_sources
from penstock.app.runtime import plan_of
from penstock.app.settings import load_settings
from penstock.connectors.kafka_push import KafkaPush, Topic
from penstock.core.errors import InputError
from penstock.definitions.project import load_project
from penstock.plan.nodes import Plan


def kafka_target(root: Path, sources: Iterable[str], *, key: str | None = None) -> KafkaPush:
    """What sends rows of `sources` to the topics of their `KafkaConfig`.

    Parameters
    ----------
    key
        The field whose value is the messages' key; default: the `key_field` of a source's KafkaConfig, else the only entity's of the views over
        it. Labels get the key of their event.

    Raises
    ------
    InputError
        A source has no topic that takes JSON, or which key is meant is not clear.
    UnreachableError
        No broker answers.
    """
    project = load_project(root)
    plan, settings = plan_of(project), load_settings(root).kafka
    configs = kafka_sources(project, plan)
    topics = {}
    for source in sources:
        config = configs.get(source)
        if config is None or config.value_format != "json":
            found = "no KafkaConfig" if config is None else f"one of {config.value_format}"
            raise InputError(
                f"live-data: source {source!r} has {found}, and --kafka sends JSON to the topics of sources. Allowed is KafkaConfig(..., "
                'value_format="json"); leave --kafka out to send over HTTP.'
            )
        node = plan.sources[source]
        field = None if node.label_of is not None else key_field(plan, source, key or config.key_field)
        client = tuple(sorted(client_settings(config, settings).items()))
        topics[source] = Topic(config.topic_names[0], field, node.id_field, client)
    return KafkaPush(topics)


def key_field(plan: Plan, source: str, given: str | None = None) -> str:
    """The field of `source` whose value keys its messages: `given`, or the one key of the views over it.

    Raises `InputError` where there is no such field, or views have several keys and none is named.
    """
    names = [field.name for field in plan.sources[source].fields]
    if given is not None:
        if given not in names:
            raise InputError(
                f"source {source!r}: it has no field {given!r}; there are {', '.join(names)}. Name one of these."
            )
        return given
    keys = dict.fromkeys(view.keys[0].name for view in plan.views if view.source == source and view.keys)
    if len(keys) != 1:
        found = f"the keys {', '.join(keys)}" if keys else "none with a key"
        raise InputError(
            f"source {source!r}: its messages need one key, and of the views over it there are {found}. Name a field: key_field of its "
            "KafkaConfig, or --kafka-key FIELD."
        )
    return next(iter(keys))
