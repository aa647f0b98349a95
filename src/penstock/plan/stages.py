"""One plan as a chain of plans, a stage for each column by which events are parted.

1. A view belongs to the first stage whose column is in its key, and is what events are looked up by: there all rows of a key come together.
2. A stage before the last computes its own views alone, and its log keeps their values beside the events (`Plan.carried`).
3. The last stage is the plan as it was, but that the views of the stages before are given: it decides. Its services mean what they meant, so
   models fit as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from penstock.core.errors import PlanError
from penstock.core.time import LONGEST, to_us
from penstock.core.types import DataType
from penstock.plan.compile import plan_fingerprint
from penstock.plan.nodes import Lookup, Plan, Selected, ServiceNode, SourceNode, ViewNode

CARRIED = "carried"
Given = tuple[tuple[str, DataType], ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a chain.

    Attributes
    ----------
    column
        The column of the events by which its shards share them.
    plan
        What its shards compute.
    following
        The column of the next stage; None for the last one, which decides.
    """

    column: str
    plan: Plan
    following: str | None


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


def given_name(view: ViewNode, lookup: Lookup, feature: str) -> str:
    """Under which name a feature of a look-up is carried."""
    return f"_given.{view.name}({', '.join(lookup.key_columns)}).{feature}"


def stages_of(plan: Plan, source: str, columns: Sequence[str]) -> tuple[Stage, ...]:
    """The stages of `plan` for the events of `source`, parted by one of `columns` after another.

    Raises
    ------
    PlanError
        A column is not there, may be null, or is named twice; a view has none of them in its key; or a stage before the last has features
        that cannot be carried, which are lists.
    """
    _check_columns(plan, source, columns)
    found: dict[int, list[Lookup]] = {}
    for lookup, _ in lookups_of(plan, source):
        found.setdefault(lookup.view, []).append(lookup)
    stage_of = {view: _stage_of(plan, source, lookups, columns) for view, lookups in found.items()}
    following: list[str | None] = [*columns[1:], None]
    plans: list[Plan] = []
    given: Given = ()
    for at in range(len(columns) - 1):
        plans.append(_before(plan, source, at, stage_of, given))
        given = plans[-1].sources[source].given
    plans.append(_last(plan, source, len(columns) - 1, stage_of, given))
    return tuple(Stage(*one) for one in zip(columns, plans, following, strict=True))


def _check_columns(plan: Plan, source: str, columns: Sequence[str]) -> None:
    allowed = [f.name for f in plan.sources[source].fields if not f.optional]
    if len(set(columns)) < len(columns) or not set(columns) <= set(allowed):
        raise PlanError(
            f"stages of {source!r}: they are parted by {', '.join(columns)}; allowed are its columns that are never null, each once: "
            f"{', '.join(allowed)}. Correct repartition_by of [kafka], and key_field of the KafkaConfig."
        )


def _stage_of(plan: Plan, source: str, lookups: Sequence[Lookup], columns: Sequence[str]) -> int:
    """The stage of a view, for all that look it up."""
    view = plan.views[lookups[0].view]
    parting = [columns_that_part(plan, source, lookup) for lookup in lookups]
    for at, column in enumerate(columns):
        if all(column in some for some in parting):
            if at < len(columns) - 1:
                _check_carried(view)
            return at
    said = " and by ".join(", ".join(lookup.key_columns) or "no key" for lookup in lookups)
    raise PlanError(
        f"view {view.name!r}: it is looked up by {said}, and events are parted by {', '.join(columns)}; allowed are views with one of these in "
        "their key, looked up by the column of that name. Add the view's key to repartition_by of [kafka], or take the view out."
    )


def _check_carried(view: ViewNode) -> None:
    lists = [node.name for node in view.aggregates if node.dtype.kind == "array"]
    if lists:
        raise PlanError(
            f"view {view.name!r}: its features {', '.join(lists)} are lists, and a stage hands on numbers and texts only. Put its column last "
            "in repartition_by of [kafka], or take them out."
        )


def _sources(plan: Plan, source: str, at: int, given: Given) -> dict[str, SourceNode]:
    """The sources that a stage reads; those of later ones were compared with the first one's clock, and others have no say."""
    read = {name: node for name, node in plan.sources.items() if source in {name, node.label_of}}
    if at:
        read = {name: replace(node, max_future_skew_us=to_us(LONGEST)) for name, node in read.items()}
    return read | {source: replace(read[source], given=given)}


def _before(plan: Plan, source: str, at: int, stage_of: dict[int, int], given: Given) -> Plan:
    """The plan of a stage before the last."""
    kept = [i for i in range(len(plan.views)) if stage_of.get(i) == at]
    views = tuple(plan.views[i] for i in kept)
    lookups = tuple(
        replace(lookup, view=kept.index(lookup.view))
        for lookup, _ in lookups_of(plan, source)
        if lookup.view in kept
    )
    outputs = tuple(
        Selected("lookup", i, node.output, given_name(views[one.view], one, node.name), node.dtype)
        for i, one in enumerate(lookups)
        for node in views[one.view].aggregates
    )
    carried = ServiceNode(CARRIED, source, lookups, (), outputs, (), fingerprint=CARRIED)
    sources = _sources(plan, source, at, (*given, *((one.name, one.dtype) for one in outputs)))
    return Plan(sources, views, {CARRIED: carried}, {}, (), plan_fingerprint(sources, views), carried=carried)


def _last(plan: Plan, source: str, at: int, stage_of: dict[int, int], given: Given) -> Plan:
    """The plan of the stage that decides."""
    views = tuple(replace(view, given=stage_of.get(i, at) < at) for i, view in enumerate(plan.views))
    sources = dict(plan.sources) | _sources(plan, source, at, given)
    return replace(plan, sources=sources, views=views, fingerprint=plan_fingerprint(sources, views))
