"""The catalog of a project: its definitions, and the registered versions of its models, as one graph."""

from __future__ import annotations

from pathlib import Path

from penstock.app.registries import is_mlflow
from penstock.app.runtime import registry_of, stream_of
from penstock.app.settings import load_settings
from penstock.definitions.project import Project, load_project
from penstock.models.registry import ModelRegistry
from penstock.plan.lineage import Lineage, Version, lineage


def catalog(root: Path) -> Lineage:
    """What the project in `root` defines, how it hangs together, and which model versions there are."""
    uri = load_settings(root).registry.uri
    there = is_mlflow(uri) or (root / uri).is_dir()  # looking at a project must not make its folders
    return catalog_of(load_project(root), registry_of(root) if there else None)


def catalog_of(project: Project, registry: ModelRegistry | None) -> Lineage:
    """The same of definitions that are loaded already; without a registry there are no versions."""
    streams = {name: stream_of(project, service).name for name, service in project.services.items()}
    versions: dict[str, list[Version]] = {}
    if registry is not None:
        for name in registry.names():
            versions[name] = [Version(one.version, one.stage) for one in registry.versions(name)]
    return lineage(project, streams=streams, versions=versions)
