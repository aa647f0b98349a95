"""The catalog of a project: its definitions, and the registered versions of its models, as one graph."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from penstock.app.origins import fingerprint_now
from penstock.app.registries import is_mlflow
from penstock.app.runtime import registry_of, stream_of
from penstock.app.settings import load_settings
from penstock.core.errors import ArtifactError
from penstock.definitions.project import Project, load_project
from penstock.models.manifest import Manifest, read_manifest
from penstock.models.registry import ModelRegistry, ModelVersion
from penstock.plan.lineage import lineage
from penstock.plan.lineage_graph import Lineage, Version


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
            now = fingerprint_now(project, name)
            versions[name] = [_version(one, now) for one in registry.versions(name)]
    return lineage(project, streams=streams, versions=versions)


def _version(found: ModelVersion, now: str | None) -> Version:
    """A version with what is kept with it; of one whose files are elsewhere only the stage is known."""
    try:
        manifest = _manifest(found.folder, found.digest)
    except ArtifactError:
        return Version(found.version, found.stage)
    origin = manifest.origin
    if origin is None:
        return Version(found.version, found.stage)
    places = [f"{name} version {at}" for name, at in origin.tables.items()]
    places += [f"file {name}" for name in origin.files]
    places += [] if origin.position is None else [f"the log up to {origin.position:,}"]
    text = f"trained on {manifest.dataset or 'no recorded data set'}" + "".join(f", {one}" for one in places)
    return Version(
        found.version, found.stage, origin, in_force=manifest.service_fingerprint == now, data=text
    )


@lru_cache(4096)
def _manifest(folder: Path, digest: str) -> Manifest:
    """A manifest never changes: its digest is its name."""
    return read_manifest(folder, digest=digest)
