"""Where a model version comes from, and what it decided: from the raw data's versions to the decisions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.app.datasets import DatasetFolder
from penstock.app.origins import fingerprint_now, origin_of
from penstock.app.runtime import open_reader, registry_of
from penstock.app.storing import has_run
from penstock.core.errors import NotFoundError
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.engine.recovery import Progress, no_progress
from penstock.plan.origins import Origin

if TYPE_CHECKING:
    from penstock.definitions.project import Project
    from penstock.models.history import HistoryRow
    from penstock.models.manifest import Manifest
    from penstock.models.registry import ModelRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLineage:
    """One version's way, in the order in which data flow.

    Attributes
    ----------
    tables, log_position
        Versions of the offline tables with its data, and the length of the log; empty where no data set was recorded, and None
        where it was not made from a log.
    files
        By name the SHA-256 of the files that it was trained on in place of a log.
    dataset
        The recorded data set's id.
    sources, views
        Fingerprints of the sources, and of the views that made its features, as they were.
    in_force
        Whether its features are computed so by the definitions in force.
    service_fingerprint, training_digest
        Of the features' definitions, and of every value that it was trained on.
    parent
        The version that was live when it was trained.
    life
        What happened to it, with who, when, why and the gate's report.
    decisions
        How many events of this project it decided, by endpoint.
    """

    version: str
    digest: str
    tables: dict[str, int]
    log_position: int | None
    files: dict[str, str]
    dataset: str | None
    sources: dict[str, str]
    views: dict[str, str]
    in_force: bool
    service_fingerprint: str
    training_digest: str
    parent: str | None
    life: tuple[HistoryRow, ...]
    decisions: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The lineage as JSON values."""
        return asdict(self)


def model_lineage(
    root: Path, name: str, version: int | str, *, progress: Progress = no_progress
) -> ModelLineage:
    """The lineage of a version of the project in `root`; raises `NotFoundError` where there is no such version."""
    registry = registry_of(root)
    found = lineage_of_version(load_project(root), registry, name, version)
    return replace(found, decisions=_decisions(root, found.version, progress))


def lineage_of_version(
    project: Project, registry: ModelRegistry, name: str, version: int | str
) -> ModelLineage:
    """The same of definitions that are loaded already, without counting decisions.

    What it was made from is kept with the version: it does not matter what has become of definitions, tables and records since.
    """
    found = registry.get(name, version)
    manifest = found.manifest()
    in_force = manifest.service_fingerprint == fingerprint_now(project, name)
    origin = manifest.origin or _guessed(project, manifest, in_force=in_force)
    return ModelLineage(
        version=found.label,
        digest=found.digest,
        tables=dict(origin.tables),
        log_position=origin.position,
        files=dict(origin.files),
        dataset=manifest.dataset,
        sources=dict(origin.sources),
        views={view: one.fingerprint for view, one in origin.views.items()},
        in_force=in_force,
        service_fingerprint=manifest.service_fingerprint,
        training_digest=manifest.data.digest,
        parent=manifest.parent,
        life=tuple(row for row in registry.history(name) if row.version == found.version),
        decisions={},
    )


def _guessed(project: Project, manifest: Manifest, *, in_force: bool) -> Origin:
    """What can be said of a version that an older Penstock registered: its data set's record, and the definitions if they are the same."""
    origin = origin_of(project, project.models[manifest.name]) if in_force else Origin({}, {})
    if manifest.dataset is None:
        return origin
    try:
        dataset = DatasetFolder(project.root).get(manifest.dataset)
    except NotFoundError:  # recorded in another copy of the project
        return origin
    tables = {table: at.version for table, at in dataset.tables.items()}
    return replace(origin, tables=tables, position=dataset.question.position)


def _decisions(root: Path, version: str, progress: Progress) -> dict[str, int]:
    """Decisions of the version by endpoint, counted in the store."""
    counts: dict[str, int] = {}
    if not has_run(root):
        return counts
    with open_reader(root) as store:
        end = store.next_position
        for batch in store.read_decisions():
            made = Decisions.from_bytes(batch.payload)
            own = int(made.of_version(version).sum())
            if own:
                counts[batch.endpoint] = counts.get(batch.endpoint, 0) + own
            progress(int(batch.positions[-1]), end)
    return counts
