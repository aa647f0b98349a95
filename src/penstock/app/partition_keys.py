"""Whether the features of shards can be right: the events of each key that is looked up must stand in one partition."""

from __future__ import annotations

from collections.abc import Container

from penstock.core.errors import InputError
from penstock.plan.nodes import Plan
from penstock.plan.stages import columns_that_part, lookups_of


def check_read(plan: Plan, source: str, *, read: Container[str]) -> None:
    """Raise `InputError` where nobody reads the source of a view that is looked up for the events of `source`."""
    for _, view in lookups_of(plan, source):
        node = plan.sources[view.source]
        if node.is_list:
            raise InputError(
                f"worker: list {node.name!r}: workers take no changes of lists, so nobody would be listed. Use penstock up, which reads all "
                "partitions; or let events say it themselves, in a Bool column that whoever sends them fills in, and name that in the rule."
            )
        if node.is_batch and view.source not in read:
            raise InputError(
                f"worker: view {view.name!r} is over the table {view.source!r}, and workers read no tables, so its features would be empty. Use "
                "penstock up, which reads all partitions, or take the view out of the services."
            )
        if view.source not in read:
            raise InputError(
                f"worker: view {view.name!r} is over {view.source!r}, which is not read from Kafka, so its features would be empty. Give the "
                "source a KafkaConfig, or use penstock up."
            )


def check_partition_key(plan: Plan, source: str, *, key: str | None) -> None:
    """Raise unless the features of `source` are right in each partition of its topic by itself.

    Parameters
    ----------
    key
        The column that keys the topic's messages, where its `KafkaConfig` says so; else any that all views have in common will do.

    Raises
    ------
    InputError
        A view has another key, or views have no key in common.
    """
    names = [f.name for f in plan.sources[source].fields]
    found = list(lookups_of(plan, source))
    parting = [(view.name, columns_that_part(plan, source, lookup)) for lookup, view in found]
    common = [name for name in names if all(name in columns for _, columns in parting)]
    if key in common or (key is None and common) or not found:
        return
    said = ", ".join(
        f"{view.name!r} by {', '.join(k.name for k in view.keys) or 'nothing'}" for _, view in found
    )
    wrong = sorted({name for name, columns in parting if key not in columns})
    which = (
        f"the topic is keyed by {key!r}, and not so {', '.join(wrong)}"
        if key
        else "they have no key in common"
    )
    raise InputError(
        f"worker: a partition would hold some events only of a key of {source!r}, and features would be wrong. Its views are {said}; {which}. "
        "Let workers send events on by the other keys (repartition_by of [kafka], with key_field in the KafkaConfig), take these views out of the "
        "services, or use penstock up, which reads all partitions."
    )
