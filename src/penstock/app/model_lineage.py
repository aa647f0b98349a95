"""Where a model version comes from, and what it decided: from the raw data's versions to the decisions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.app.datasets import DatasetFolder
from penstock.app.runtime import open_reader, plan_of, registry_of
from penstock.app.storing import has_run
from penstock.core.errors import NotFoundError
from penstock.definitions.project import load_project
from penstock.engine.decisions import Decisions
from penstock.engine.recovery import Progress, no_progress
from penstock.plan.compile import view_fingerprint

if TYPE_CHECKING:
    from penstock.models.history import HistoryRow
    from penstock.models.registry import ModelRegistry
    from penstock.plan.nodes import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLineage:
    """One version's way, in the order in which data flow.

    Attributes
    ----------
    tables, log_position
        Versions of the offline tables with its data, and the length of the log; empty and None where no data set was
        recorded (training from files).
    dataset
        The recorded data set's id.
    views
        Fingerprints of the views that made its features, where the definitions in force are those of its training; else empty.
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
    dataset: str | None
    views: dict[str, str]
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
    found = lineage_of_version(root, plan_of(load_project(root)), registry, name, version)
    return replace(found, decisions=_decisions(root, found.version, progress))


def lineage_of_version(
    root: Path, plan: Plan, registry: ModelRegistry, name: str, version: int | str
) -> ModelLineage:
    """The same of definitions that are loaded already, without counting decisions."""
    found = registry.get(name, version)
    manifest = found.manifest()
    dataset = None
    if manifest.dataset is not None:
        try:
            dataset = DatasetFolder(root).get(manifest.dataset)
        except NotFoundError:  # recorded in another copy of the project
            dataset = None
    return ModelLineage(
        version=found.label,
        digest=found.digest,
        tables={} if dataset is None else {table: at.version for table, at in dataset.tables.items()},
        log_position=None if dataset is None else dataset.question.position,
        dataset=manifest.dataset,
        views=_views(plan, manifest.service_fingerprint),
        service_fingerprint=manifest.service_fingerprint,
        training_digest=manifest.data.digest,
        parent=manifest.parent,
        life=tuple(row for row in registry.history(name) if row.version == found.version),
        decisions={},
    )


def _views(plan: Plan, fingerprint: str) -> dict[str, str]:
    service = next((s for s in plan.services.values() if s.fingerprint == fingerprint), None)
    if service is None:
        return {}
    used = [plan.views[index] for index in dict.fromkeys(lookup.view for lookup in service.lookups)]
    return {view.name: view_fingerprint(plan, view) for view in used}


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
