"""How models, their versions and what happened to them look over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from penstock.core.errors import ArtifactError
from penstock.core.time import from_us
from penstock.models.manifest import MANIFEST_NAME, Manifest, read_files
from penstock.serving.acting import Because

if TYPE_CHECKING:
    from pydantic.config import JsonDict

    from penstock.models.gates import GateReport
    from penstock.models.history import HistoryRow
    from penstock.models.registry import ModelVersion

Stage = Literal["None", "Staging", "Production", "Archived"]
_VERSION: JsonDict = {
    "version": "fraud:3",
    "model": "fraud",
    "number": 3,
    "stage": "Production",
    "aliases": ["champion"],
    "created": "2026-11-20T03:10:22Z",
    "digest": "9f3c21d7c1a80e01",
    "parent": "fraud:2",
    "dataset": "ds-0123456789ab",
    "metrics": {"average_precision": 0.61, "roc_auc": 0.97},
}


class ModelShape(BaseModel):
    """A model: what is defined, and what is registered under its name."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "fraud",
                "defined": True,
                "task": "binary",
                "service": "fraud_features",
                "label": "chargebacks",
                "endpoints": ["checkout"],
                "versions": 3,
                "champion": "fraud:3",
                "challenger": None,
                "previous": "fraud:2",
            }
        }
    )

    name: str
    defined: bool = Field(description="Whether the definitions in force have it.")
    task: str | None
    service: str | None = Field(description="The feature service that it reads.")
    label: str | None
    endpoints: list[str] = Field(description="Where it decides or looks on.")
    versions: int
    champion: str | None = Field(description="The version in Production.")
    challenger: str | None = Field(description="The newest in Staging.")
    previous: str | None = Field(description="The one a rollback goes back to.")


class VersionShape(BaseModel):
    """A registered version."""

    model_config = ConfigDict(json_schema_extra={"example": _VERSION})

    version: str = Field(description="`NAME:NUMBER`, as decisions name it.")
    model: str
    number: int
    stage: Stage
    aliases: list[str]
    created: datetime
    digest: str = Field(description="SHA-256 of its manifest, which names every file by its own.")
    parent: str | None = Field(None, description="The version that was live when it was trained.")
    dataset: str | None = Field(None, description="The recorded data set that it was trained on.")
    metrics: dict[str, Any] = Field({}, description="Of its test period.")
    problem: str | None = Field(None, description="Why its files cannot be used, where they cannot.")


class VersionDetail(VersionShape):
    """A version with all that is kept of it."""

    manifest: dict[str, Any]
    plots: list[str] = Field(description="Pictures; see `…/plots/{name}`.")
    gates: list[str] = Field(description="Digests of the gate's reports on it; see `…/gates/{digest}`.")


class MoveShape(BaseModel):
    """Something that happened to a version."""

    sequence: int
    time: datetime
    actor: str
    action: str
    version: str
    stage: Stage = Field(description="The stage that it has from then on.")
    reason: str
    gate: str = Field(description="The digest of the report that allowed it, or `skipped:` and why.")


class HistoryShape(BaseModel):
    """What happened to a model's versions, newest first."""

    items: list[MoveShape]
    next: str | None = None
    live: VersionShape | None = Field(None, description="With `at`: the version that was live then.")
    since: MoveShape | None = Field(None, description="With `at`: by what it had come there.")


class RuleShape(BaseModel):
    """What one rule of a gate found."""

    name: str
    verdict: Literal["pass", "fail", "inconclusive"]
    text: str
    numbers: dict[str, Any]


class GateShape(BaseModel):
    """A gate's report on a version."""

    digest: str
    verdict: Literal["pass", "fail", "inconclusive"]
    challenger: str
    champion: str | None
    thresholds: dict[str, float | None]
    holdout: dict[str, Any]
    gate: dict[str, Any]
    rules: list[RuleShape]
    created: datetime


class Promotion(Because):
    """A version to put into use."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"reason": "better on last week", "stage": "Production"}},
    )

    stage: Literal["Production", "Staging"] = "Production"
    gate: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{16,64}$",
        description="The digest of a kept report that passed; without one the version is judged first, by a job.",
    )
    force: bool = Field(False, description="Promote without a verdict; the reason is kept as `skipped:`.")


class MovedShape(BaseModel):
    """A version after it was moved, and what serves now."""

    version: VersionShape
    serving: dict[str, dict[str, str]] = Field(
        description="By endpoint and arm, the version with which the engine decides from now on."
    )
    problems: dict[str, str] = Field(description="By endpoint, why what was moved does not serve.")


class LoadedShape(BaseModel):
    """What was loaded anew, and what serves now."""

    loaded: dict[str, list[str]] = Field(description="By endpoint the versions that are new.")
    serving: dict[str, dict[str, str]]
    problems: dict[str, str]


class ProfileColumnShape(BaseModel):
    """A column of the training data."""

    name: str
    role: Literal["feature", "score", "label"]
    is_discrete: bool = Field(description="Whether `cuts` are values; else each is the upper end of a bin.")
    cuts: list[float]
    counts: list[int]
    rows: int
    missing: int
    mean: float
    spread: float


class VersionLineage(BaseModel):
    """Where a version comes from."""

    version: str
    digest: str
    tables: dict[str, int] = Field(description="Versions of the offline tables that held its data.")
    log_position: int | None = Field(description="The length of the log that it was made from.")
    files: dict[str, str] = Field(
        description="By name the SHA-256 of the files that it was trained on in place of a log."
    )
    dataset: str | None
    sources: dict[str, str] = Field(
        description="Fingerprints of what its features and labels came from, as they were."
    )
    views: dict[str, str] = Field(
        description="Fingerprints of the views that made its features, as they were."
    )
    in_force: bool = Field(description="Whether its features are computed so by the definitions in force.")
    service_fingerprint: str
    training_digest: str
    parent: str | None
    life: list[MoveShape]


def version_of(version: ModelVersion) -> VersionShape:
    """A version with what its manifest says, where that is at hand."""
    return VersionShape(**version_values(version))


def version_values(version: ModelVersion) -> dict[str, Any]:
    """The members of a version."""
    found: dict[str, Any] = {
        "version": version.label,
        "model": version.name,
        "number": version.version,
        "stage": version.stage,
        "aliases": list(version.aliases),
        "created": from_us(version.created_us),
        "digest": version.digest,
    }
    if not (version.folder / MANIFEST_NAME).is_file():  # of another machine's; `get` brings it here
        return found
    try:
        manifest = manifest_of(version.folder, version.digest)
    except ArtifactError as error:
        return found | {"problem": str(error)}
    return found | {"parent": manifest.parent, "dataset": manifest.dataset, "metrics": manifest.metrics}


@lru_cache(maxsize=512)
def manifest_of(folder: Path, digest: str) -> Manifest:
    """The manifest of a version; every byte of its files is checked the first time."""
    return read_files(folder, digest=digest).manifest


def manifest_values(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON values, with times as ISO 8601."""
    found = asdict(manifest)
    found["created"] = from_us(found.pop("created_us")).isoformat()
    data = found["data"]
    data |= {
        "start": from_us(data.pop("start_us")).isoformat(),
        "end": from_us(data.pop("end_us")).isoformat(),
    }
    return found


def move_of(row: HistoryRow) -> MoveShape:
    """A row of the history."""
    return MoveShape(
        sequence=row.sequence,
        time=from_us(row.time_us),
        actor=row.actor,
        action=row.action,
        version=f"{row.name}:{row.version}",
        stage=row.stage,
        reason=row.reason,
        gate=row.gate,
    )


def gate_of(report: GateReport) -> GateShape:
    """A gate's report."""
    holdout = dict(report.holdout)
    for name in ("start", "end"):
        if f"{name}_us" in holdout:
            holdout[name] = from_us(holdout.pop(f"{name}_us")).isoformat()
    return GateShape(
        digest=report.digest,
        verdict=report.verdict,
        challenger=report.challenger,
        champion=report.champion,
        thresholds=dict(report.thresholds),
        holdout=holdout,
        gate=dict(report.gate),
        rules=[RuleShape(**asdict(rule)) for rule in report.rules],
        created=from_us(report.created_us),
    )
