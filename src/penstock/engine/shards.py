"""A plan cut by key, so that machines that share nothing compute it: which rows go where, and what each machine runs.

A view's state is kept by key, so rows of one key must meet in one place, in order; rows of different keys need not meet. So:

1. Views whose rows find their place alike are a `Shard`: a plan of its own. Views of one entity without functions are one.
2. A row is copied once for each shard that it enters or asks: a `Copy`. A payment of a card at a terminal goes to the card's place, and to
   the terminal's.
3. What the copies of an event were told are put together again (`Gatherer`), where realtime views are computed too.

No key is split and none is merged, so that the values are those of one machine to the last bit. Only `max_keys` is about all keys together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from penstock.core.errors import InputError
from penstock.core.types import Field
from penstock.plan.nodes import Lookup, Plan, Selected, ServiceNode, SourceNode, ViewNode


@dataclass(frozen=True)
class Copy:
    """One kind of copies of a source's rows.

    Attributes
    ----------
    index
        Its number among all kinds.
    source
        Whose rows are copied.
    shard
        Where they go.
    enters
        Whether the row enters the shard's views; if not, it only asks.
    service, lookups
        Who is told, and which of its look-ups are answered; none where rows only enter.
    key_columns
        By which columns the row asks; for rows that enter, the views say it.
    fields
        The columns that go along.
    """

    index: int
    source: str
    shard: int
    enters: bool
    service: str | None
    lookups: tuple[int, ...]
    key_columns: tuple[str, ...]
    fields: tuple[Field, ...]

    @property
    def answers_as(self) -> str:
        """The service of the shard's plan that answers these copies."""
        return f"copy {self.index}"

    @property
    def stands_for(self) -> str:
        """The source of the shard's plan that these copies are rows of: one that only asks is no source of a view."""
        return self.source if self.enters else f"{self.source}, asking by {', '.join(self.key_columns)}"


@dataclass(frozen=True)
class Shard:
    """Views whose rows find their place alike, as a plan."""

    views: tuple[int, ...]
    plan: Plan


@dataclass(frozen=True)
class ShardedPlan:
    """A plan, the services that are wanted of it, its shards, and the copies that rows make."""

    plan: Plan
    services: tuple[ServiceNode, ...]
    shards: tuple[Shard, ...]
    copies: tuple[Copy, ...]

    def copies_of(self, source: str) -> tuple[Copy, ...]:
        """The copies that a row of `source` makes."""
        return self._by_source.get(source, ())

    @cached_property
    def _by_source(self) -> dict[str, tuple[Copy, ...]]:
        names = {copy.source for copy in self.copies}
        return {name: tuple(c for c in self.copies if c.source == name) for name in names}

    def answering(self, service: ServiceNode) -> tuple[Copy, ...]:
        """The copies that tell `service` something."""
        return tuple(copy for copy in self.copies if copy.service == service.name)

    def selected(self, copy: Copy) -> tuple[Selected, ...]:
        """What a copy is told, as the service names it: each value once."""
        service = next(s for s in self.services if s.name == copy.service)
        wanted = [output for output in _wanted(service) if output.index in copy.lookups]
        return tuple({(one.index, one.column): one for one in wanted}.values())


def shard_plan(plan: Plan, services: Sequence[ServiceNode]) -> ShardedPlan:
    """Cut `plan` by key, for `services`, of which there is at most one a source."""
    groups: dict[tuple[object, ...], list[int]] = {}
    used = {lookup.view for service in services for lookup in service.lookups}
    for index in sorted(used):
        groups.setdefault(_place(plan.views[index]), []).append(index)
    copies: list[Copy] = []
    for shard, views in enumerate(groups.values()):
        copies += _copies(plan, services, shard, views, first=len(copies))
    sharded = ShardedPlan(plan, tuple(services), (), tuple(copies))
    shards = tuple(
        _shard(sharded, views, [c for c in copies if c.shard == i]) for i, views in enumerate(groups.values())
    )
    return replace(sharded, shards=shards)


def check_keys(plan: Plan, keys: Sequence[int]) -> None:
    """Raise `InputError` where one machine would have had to forget keys, so that its values would differ.

    Parameters
    ----------
    keys
        How many each view of `plan` held in all places together.
    """
    for view, found in zip(plan.views, keys, strict=True):
        allowed = view.program.max_keys
        if found > allowed:
            raise InputError(
                f"feature view {view.name!r}: {found:,} keys found; max_keys={allowed:,} are allowed, and of more one machine forgets "
                "some, which Spark cannot repeat. Raise max_keys of the view; what was written is not to be used."
            )


def _place(view: ViewNode) -> tuple[object, ...]:
    """What decides where rows of a view go. A function may make the key, so views of different functions stay apart."""
    return view.keys, view.code if view.function is not None else ""


def _copies(
    plan: Plan, services: Sequence[ServiceNode], shard: int, views: Sequence[int], *, first: int
) -> list[Copy]:
    found: list[Copy] = []
    for source in dict.fromkeys(plan.views[i].source for i in views):
        service = next((s for s in services if s.source == source), None)
        own = _lookups(service, views, own=True)
        fields = _fields_entering(plan.views[i] for i in views if plan.views[i].source == source)
        name = service.name if service is not None and own else None
        found.append(Copy(first + len(found), source, shard, True, name, own, (), fields))
    for service in services:
        asking = _lookups(service, views, own=False)
        for keys in dict.fromkeys(service.lookups[j].key_columns for j in asking):
            lookups = tuple(j for j in asking if service.lookups[j].key_columns == keys)
            node = plan.sources[service.source]
            fields = tuple(f for f in node.fields if f.name in {*keys, node.time_field})
            index = first + len(found)
            found.append(Copy(index, service.source, shard, False, service.name, lookups, keys, fields))
    return found


def _lookups(service: ServiceNode | None, views: Sequence[int], *, own: bool) -> tuple[int, ...]:
    if service is None:
        return ()
    return tuple(j for j, lookup in enumerate(service.lookups) if lookup.view in views and lookup.own == own)


def _fields_entering(views: Iterable[ViewNode]) -> tuple[Field, ...]:
    """The columns that views take: all of them where a function may read any."""
    fields: dict[str, Field] = {}
    for view in views:
        taken = {key.name for key in view.keys} | {view.time_field}
        taken |= {name for lane in view.lanes for name in (lane.column, lane.where) if name is not None}
        whole = view.function is not None
        fields |= {f.name: f for f in view.columns if whole or f.name in taken}
    return tuple(fields.values())


def _shard(sharded: ShardedPlan, views: Sequence[int], copies: Sequence[Copy]) -> Shard:
    plan = sharded.plan
    sources: dict[str, SourceNode] = {}
    services: dict[str, ServiceNode] = {}
    for copy in copies:
        sources[copy.stands_for] = replace(plan.sources[copy.source], name=copy.stands_for)
        if copy.service is not None:
            services[copy.answers_as] = _answering(sharded, copy, views)
    nodes = tuple(plan.views[i] for i in views)
    cut = replace(plan, sources=sources, views=nodes, services=services, endpoints={})
    return Shard(tuple(views), cut)


def _answering(sharded: ShardedPlan, copy: Copy, views: Sequence[int]) -> ServiceNode:
    """The part of a service that a copy is told, as a service of its shard's plan."""
    service = next(s for s in sharded.services if s.name == copy.service)
    lookups = tuple(
        Lookup(views.index(lookup.view), lookup.key_columns, lookup.own)
        for lookup in (service.lookups[j] for j in copy.lookups)
    )
    outputs = tuple(replace(one, index=copy.lookups.index(one.index)) for one in sharded.selected(copy))
    return ServiceNode(copy.answers_as, copy.stands_for, lookups, (), outputs, (), "")


def _wanted(service: ServiceNode) -> Iterable[Selected]:
    """All values of look-ups that a service needs, for itself or for its realtime views."""
    yield from (output for output in service.outputs if output.kind == "lookup")
    for node in service.realtime:
        for argument in node.arguments:
            yield from (item for item in argument if isinstance(item, Selected))
