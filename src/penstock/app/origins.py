"""What a model version is made from, gathered when it is trained, to be kept in its manifest."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.app.datasets import DatasetFolder
from penstock.app.runtime import stream_of
from penstock.core.types import Field
from penstock.plan.compile import (
    compile_plan,
    fields_read,
    realtime_fingerprint,
    source_fingerprint,
    view_fingerprint,
)
from penstock.plan.origins import Origin, ViewOrigin

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from penstock.definitions.models import Model
    from penstock.definitions.project import Project
    from penstock.plan.nodes import Plan, RealtimeNode, ServiceNode, ViewNode


def origin_of(project: Project, model: Model) -> Origin:
    """What the features and labels of a model are made from, by the definitions in force."""
    plan = _alone(project, model)
    service = plan.services[model.features.name]
    used = [plan.views[index] for index in dict.fromkeys(lookup.view for lookup in service.lookups)]
    views = {view.name: ViewOrigin(view_fingerprint(plan, view), _columns_of(plan, view)) for view in used}
    for node in service.realtime:
        reads = _read_by(plan, service, node)
        views[node.name] = ViewOrigin(realtime_fingerprint(plan, service, node), reads)
    return Origin(views, {name: source_fingerprint(source) for name, source in plan.sources.items()})


def fingerprint_now(project: Project, name: str) -> str | None:
    """The fingerprint of a model's features by the definitions in force; None where it is defined no more."""
    model = project.models.get(name)
    return None if model is None else _alone(project, model).services[model.features.name].fingerprint


def _alone(project: Project, model: Model) -> Plan:
    """The plan of a model's features: in one with others a view may have more features, and another fingerprint."""
    labels = [] if model.label is None else [model.label]
    return compile_plan([(model.features, stream_of(project, model.features))], labels=labels)


def origin_in_log(
    project: Project, model: Model, *, log: str, position: int, dataset: str | None = None
) -> Origin:
    """The same of a version that learns from the log with the id `log` up to a length, and of its data set, where one was recorded."""
    tables = {} if dataset is None else DatasetFolder(project.root).get(dataset).tables
    versions = {name: at.version for name, at in tables.items()}
    return replace(origin_of(project, model), log=log, position=position, tables=versions)


def origin_in_files(project: Project, model: Model, files: Iterable[Path]) -> Origin:
    """The same of a version that is trained on files."""
    return replace(origin_of(project, model), files={path.name: _file_digest(path) for path in files})


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _columns_of(plan: Plan, view: ViewNode) -> tuple[str, ...]:
    """The columns that a view reads; what labels have from their events are columns of the events."""
    source = plan.sources[view.source]
    own = {one.name for one in source.fields} - ({source.id_field} if source.label_of else set())
    return tuple(
        f"column:{source.name if one.name in own or source.label_of is None else source.label_of}.{one.name}"
        for one in fields_read(view)
    )


def _read_by(plan: Plan, service: ServiceNode, node: RealtimeNode) -> tuple[str, ...]:
    """The columns of the request, and the views, that a realtime view takes."""
    found: dict[str, None] = {}
    for one in (one for argument in node.arguments for one in argument):
        if isinstance(one, Field):
            found[f"column:{service.source}.{one.name}"] = None
        else:
            found[f"view:{plan.views[service.lookups[one.index].view].name}"] = None
    return tuple(found)
