"""The contracts of a project's sources: which schemas its log was written under, and whether a changed one may follow.

A schema gets a version when it is first used. A changed one is held against every version that events were accepted
under: what those events can be read as becomes the next version, and anything else is refused with the views, services
and models that would break. The history lies in the state folder; the log needs none of it to be read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.core.errors import CorruptionError, PlanError
from penstock.core.types import TYPES_BY_NAME, Field
from penstock.definitions.project import Project
from penstock.definitions.views import FeatureReference, FeatureView, RealtimeFeatureView
from penstock.engine.needs import views_needing
from penstock.engine.schema_versions import SchemaVersion, in_force
from penstock.plan.compatibility import Change, changes
from penstock.plan.lineage import lineage
from penstock.plan.lineage_graph import Lineage
from penstock.plan.nodes import Plan, SourceNode
from penstock.stores.directories import sync_directory
from penstock.stores.reader import ProjectReader

FILE = "contracts.json"
_BREAKING_KINDS = ("view", "service", "model", "endpoint")


class StoredField(msgspec.Struct, frozen=True):
    """A field as the history keeps it."""

    name: str
    type: str
    optional: bool = False


class ContractVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A schema, the log position from which it held, and when it began."""

    version: int
    since: int
    at_us: int
    fields: tuple[StoredField, ...]

    def schema(self) -> tuple[Field, ...]:
        """The fields as definitions have them."""
        return tuple(Field(f.name, TYPES_BY_NAME[f.type], f.optional) for f in self.fields)


class ContractHistory(msgspec.Struct, frozen=True):
    """The versions of each source's contract, oldest first."""

    store_id: str
    sources: dict[str, tuple[ContractVersion, ...]]


_contract_history_decoder = msgspec.json.Decoder(ContractHistory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A change of a source's schema: what it is, and what it breaks."""

    source: str
    version: int
    changes: tuple[Change, ...]
    refused: tuple[str, ...]
    keeps_rows: bool = False

    @property
    def text(self) -> str:
        """The change in one line; of a table whose rows the log has (`keeps_rows`) also what becomes of them."""
        said = f"{self.source} version {self.version}: {'; '.join(c.text for c in self.changes)}"
        if self.keeps_rows and any(" added," in c.text for c in self.changes):
            said += "; rows that the log has keep it null (a second BatchSource reads the table anew)"
        return said


def read_history(folder: Path) -> ContractHistory | None:
    """The history in a state folder; None where there is none yet.

    Raises `CorruptionError` where the file cannot be read: it is no cache.
    """
    path = folder / FILE
    try:
        return _contract_history_decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise CorruptionError(
            f"contracts: {path} cannot be read ({error}). Restore it; or, if the definitions are those that the log was "
            "written under, remove it, and the history begins anew."
        ) from error


def judge(
    project: Project, plan: Plan, store: ProjectReader, history: ContractHistory | None
) -> list[Judged]:
    """What changed in the schemas since their newest versions; a source that is new has nothing to change."""
    known = {} if history is None or history.store_id != store.store_id else history.sources
    found = (
        _judge(project, plan, plan.sources[name], known[name], store)
        for name in plan.sources
        if name in known
    )
    return [judged for judged in found if judged is not None]


def check(judged: Sequence[Judged]) -> None:
    """Raise `PlanError` where a change is refused: earlier events could not be read, or a view would miss its column."""
    refused = [line for one in judged for line in one.refused]
    if refused:
        raise PlanError("\n".join(refused))


def extended(
    plan: Plan, store: ProjectReader, history: ContractHistory | None, *, now_us: int
) -> ContractHistory:
    """The history with what is new in the plan's schemas, from the present end of the log on."""
    known = {} if history is None or history.store_id != store.store_id else history.sources
    sources = dict(known)
    for source in plan.sources.values():
        fields = tuple(StoredField(f.name, f.dtype.name, f.optional) for f in source.fields)
        before = known.get(source.name, ())
        if not before or changes(before[-1].schema(), source.fields):
            since = store.next_position if before else 0
            version = ContractVersion(version=len(before) + 1, since=since, at_us=now_us, fields=fields)
            sources[source.name] = (*before, version)
    return ContractHistory(store.store_id, sources)


def versions(history: ContractHistory) -> dict[str, tuple[SchemaVersion, ...]]:
    """By source the schemas that its events were accepted under."""
    return {
        name: in_force([(one.since, one.schema()) for one in known])
        for name, known in history.sources.items()
    }


def record(folder: Path, history: ContractHistory) -> None:
    """Write the history into the state `folder`, durably; nothing where it is what stands there."""
    if read_history(folder) == history:
        return
    path = folder / FILE
    aside = path.with_suffix(".tmp")
    with aside.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(history)))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_directory(folder)


def _judge(
    project: Project,
    plan: Plan,
    source: SourceNode,
    versions: Sequence[ContractVersion],
    store: ProjectReader,
) -> Judged | None:
    found = changes(versions[-1].schema(), source.fields)
    if not found:
        return None
    refused: list[str] = []
    logged = any(True for _ in store.read_log(sources={source.name}))
    if source.is_batch and logged and (gone := _gone(versions[-1].schema(), source.fields)):
        refused.append(
            f"source {source.name!r}: {', '.join(gone)} gone; allowed for a batch source whose rows are in "
            "the log is to keep the columns that their ids are made of, or its whole table would enter a second time. Define a second "
            "BatchSource with the new schema, and views over it."
        )
    if logged:
        old = {field.name: field for version in versions for field in version.schema()}
        breaking = {change.field: change for change in found if change.verdict == "refused"}
        for version in versions[:-1]:
            earlier = changes(version.schema(), source.fields)
            breaking |= {c.field: c for c in earlier if c.verdict == "refused" and c.field not in breaking}
        graph = lineage(project, streams={n: s.source for n, s in plan.services.items()}, versions={})
        for change in breaking.values():
            column = f"column:{source.name}.{change.field}"
            refused.append(_refusal(source.name, change, _after(graph, [column]), needed=False))
        for change in (change for change in found if change.verdict == "if unneeded"):
            needing = views_needing(_views(project), source.name, old[change.field])
            if needing:
                after = _after(graph, [f"view:{name}" for name in needing])
                refused.append(_refusal(source.name, change, after, needed=True))
    return Judged(
        source=source.name,
        version=len(versions) + 1,
        changes=tuple(found),
        refused=tuple(refused),
        keeps_rows=source.is_batch and logged,
    )


def _gone(before: Sequence[Field], after: Sequence[Field]) -> list[str]:
    """The fields that are no more: batch rows that the log has could not be told without them."""
    kept = {field.name for field in after}
    return [f.name for f in before if f.name not in kept]


def _refusal(source: str, change: Change, after: Mapping[str, Sequence[str]], *, needed: bool) -> str:
    why = "and is needed" if needed else "but events accepted before are not so"
    broken = "; ".join(f"{kind} {', '.join(names)}" for kind, names in after.items())
    breaks = f" It breaks {broken}." if broken else ""
    return f"source {source!r}: {change.text}, {why}.{breaks} {change.advice}, or start a new project."


def _after(graph: Lineage, starts: Sequence[str]) -> dict[str, list[str]]:
    """By kind the names of what depends on `starts`, and of those that are views themselves."""
    found: dict[str, None] = {}
    for start in starts:
        if start in graph.nodes:
            found |= dict.fromkeys(graph.around(start, upstream=False).nodes)
    named = {
        kind: [graph.nodes[i].name for i in found if graph.nodes[i].kind == kind] for kind in _BREAKING_KINDS
    }
    return {kind: names for kind, names in named.items() if names}


def _views(project: Project) -> list[FeatureView]:
    """The project's views, those that its files do not name among them."""
    views = dict(project.views)
    waiting = [reference for service in project.services.values() for reference in service.features]
    while waiting:
        view = waiting.pop().view
        views.setdefault(view.name, view)
        if isinstance(view, RealtimeFeatureView):
            waiting += [one for one in view.sources if isinstance(one, FeatureReference)]
    return list(views.values())
