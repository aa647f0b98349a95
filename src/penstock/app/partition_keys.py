"""Whether the features of shards can be right: the events of each key that is looked up must stand in one partition."""

from __future__ import annotations

from collections.abc import Container, Iterator

from penstock.core.errors import InputError
from penstock.plan.nodes import Lookup, Plan, ViewNode


def lookups_of(plan: Plan, source: str) -> Iterator[tuple[Lookup, ViewNode]]:
    """What is looked up for the events of `source`, each once."""
    services = [service for service in plan.services.values() if service.source == source]
    for lookup in dict.fromkeys(lookup for service in services for lookup in service.lookups):
        yield lookup, plan.views[lookup.view]


def columns_that_part(plan: Plan, source: str, lookup: Lookup) -> tuple[str, ...]:
    """By which columns of the events topics may be keyed so that a look-up finds all rows of its key in the event's own partition.

    Those are the columns of the view's key that the event is looked up by under the same name: one is enough, since the rows of a key of
    several columns agree in each.
    """
    columns = {f.name for f in plan.sources[source].fields}
    pairs = zip(plan.views[lookup.view].keys, lookup.key_columns, strict=True)
    return tuple(column for key, column in pairs if key.name == column and column in columns)


def check_partition_key(plan: Plan, source: str, *, key: str | None, read: Container[str]) -> None:
    """Raise unless the features of `source` are right in each partition of its topic by itself.

    Parameters
    ----------
    key
        The column that keys the topic's messages, where its `KafkaConfig` says so; else any that all views have in common will do.
    read
        The sources whose topics are read.

    Raises
    ------
    InputError
        A view has another key, views have no key in common, or nobody reads the source of a view.
    """
    found = list(lookups_of(plan, source))
    for _, view in found:
        if view.source not in read:
            raise InputError(
                f"worker: view {view.name!r} is over {view.source!r}, which is not read from Kafka, so its features would be empty. Give the "
                "source a KafkaConfig, or use penstock up."
            )
    parting = {view.name: columns_that_part(plan, source, lookup) for lookup, view in found}
    names = [f.name for f in plan.sources[source].fields]
    common = [name for name in names if all(name in columns for columns in parting.values())]
    if key in common or (key is None and common) or not found:
        return
    said = ", ".join(
        f"{view.name!r} by {', '.join(k.name for k in view.keys) or 'nothing'}" for _, view in found
    )
    wrong = sorted(name for name, columns in parting.items() if key not in columns)
    which = (
        f"the topic is keyed by {key!r}, and not so {', '.join(wrong)}"
        if key
        else "they have no key in common"
    )
    raise InputError(
        f"worker: a partition would hold some events only of a key of {source!r}, and features would be wrong. Its views are {said}; {which}. "
        "Allowed are views by the key of the topic's messages (key_field of KafkaConfig). Take the others out of the services, give the topic one "
        "partition, or use penstock up, which reads all partitions."
    )
