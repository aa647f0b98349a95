"""What a project and its log agree on, for `penstock contracts`: reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.app.contracts import ContractVersion, StoredField, judge, read_history
from penstock.app.runtime import open_reader, plan_of, state_folder
from penstock.app.storing import has_run
from penstock.core.errors import NotFoundError
from penstock.definitions.project import Project, load_project
from penstock.engine.unknown_fields import EVERY, unknown_of
from penstock.plan.compatibility import changes
from penstock.plan.nodes import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreedVersion:
    """A version of a source's schema; `text` says what changed, or, of the first, what its fields are."""

    number: int
    since: int
    at_us: int
    text: str
    fields: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The contract of a source.

    `pending` is what the definitions would change, `refused` why they may not. `unknown` counts by field the events that had
    it among those looked at, which are one in `every`.
    """

    source: str
    versions: tuple[AgreedVersion, ...]
    pending: str
    refused: tuple[str, ...]
    unknown: Mapping[str, int]
    every: int = EVERY

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**asdict(self), "unknown": dict(self.unknown)}


def agreements(root: Path, source: str | None = None) -> list[Agreement]:
    """The contracts of all sources of the project in `root`, or of one."""
    project = load_project(root)
    return agreements_of(project, plan_of(project), source)


def agreements_of(project: Project, plan: Plan, source: str | None = None) -> list[Agreement]:
    """The same of definitions that are loaded already."""
    root = project.root
    if source is not None and source not in plan.sources:
        raise NotFoundError(
            f"contracts: source {source!r} is not in the plan; there are {', '.join(plan.sources)}."
        )
    names = list(plan.sources) if source is None else [source]
    if not has_run(root):
        return [Agreement(source=n, versions=(), pending="", refused=(), unknown={}) for n in names]
    history = read_history(state_folder(root))
    with open_reader(root) as store:
        judged = {one.source: one for one in judge(project, plan, store, history)}
        counters = store.counters()
    known = {} if history is None else history.sources
    return [
        Agreement(
            source=name,
            versions=_versions(known.get(name, ())),
            pending="; ".join(change.text for change in judged[name].changes) if name in judged else "",
            refused=judged[name].refused if name in judged else (),
            unknown=unknown_of(counters, name),
        )
        for name in names
    ]


def _versions(versions: tuple[ContractVersion, ...]) -> tuple[AgreedVersion, ...]:
    found = []
    for i, one in enumerate(versions):
        text = ", ".join(map(_field, one.fields))
        if i:
            text = "; ".join(change.text for change in changes(versions[i - 1].schema(), one.schema()))
        fields = tuple({"name": f.name, "type": f.type, "optional": f.optional} for f in one.fields)
        found.append(
            AgreedVersion(number=one.version, since=one.since, at_us=one.at_us, text=text, fields=fields)
        )
    return tuple(found)


def _field(field: StoredField) -> str:
    return f"{field.name} {field.type}" + " optional" * field.optional
