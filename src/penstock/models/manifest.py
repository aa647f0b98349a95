"""A model version on disk: a folder with a manifest that names every file by size and SHA-256.

The manifest's own digest is the version's identity. Nothing in the folder is parsed before its digest is checked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from penstock.core.errors import ArtifactError
from penstock.models.links import LinkName
from penstock.plan.origins import Origin

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 2**20

Role = Literal["onnx", "ubj", "golden", "rows", "basis", "profile", "online"]
Engine = Literal["xgboost", "onnx", "online"]
Task = Literal["binary", "regression", "anomaly"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the folder, by name, with what must be true of its bytes."""

    name: str
    role: Role
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a vector."""

    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class DataRange:
    """The data a model was trained on: the period, its size, and a digest of the exact matrix and labels."""

    start_us: int
    end_us: int
    rows: int
    positives: int | None
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model version is, where it comes from, and what it must answer.

    `engine` says who scores: ``"onnx"`` is ONNX Runtime alone, ``"xgboost"`` ONNX Runtime and XGBoost, bit-equal, ``"online"``
    the newest copy that the version's learner has published on this machine.
    `link` turns the model's output into a score. `metrics` and `parameters` hold JSON values. `thresholds` are the
    policy's at the time of training. `created_us` and all other times are microseconds since 1970-01-01 UTC.
    `dataset` is the id of the recorded data set that it was trained on, where there is one; `origin` what features and data were made
    from (None: registered by an older Penstock). `chosen` tells of the thresholds
    that were chosen by cost how, by action (`penstock.models.thresholds`); empty where none was. `kept_negatives` is the share of negatives that the model was fitted on; scores
    are corrected for it.
    """

    name: str
    task: Task
    engine: Engine
    link: LinkName
    features: tuple[Feature, ...]
    service_fingerprint: str
    data: DataRange
    parameters: dict[str, Any]
    metrics: dict[str, Any]
    thresholds: dict[str, float]
    libraries: dict[str, str]
    files: tuple[FileEntry, ...]
    created_us: int
    parent: str | None = None
    dataset: str | None = None
    chosen: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept_negatives: float = 1.0
    origin: Origin | None = None
    format_version: int = FORMAT_VERSION

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of a vector, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def chosen_thresholds(self) -> dict[str, float]:
        """The thresholds that were chosen for this version, by action."""
        return {action: float(found["threshold"]) for action, found in self.chosen.items()}

    def to_bytes(self) -> bytes:
        """Canonical JSON: keys sorted, no spaces to vary, numbers that are not finite as null."""
        document = json_value(asdict(self))
        return (
            json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        ).encode()


_manifest_decoder = msgspec.json.Decoder(Manifest)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A version's manifest and the bytes of its files by role, all checked against their digests."""

    manifest: Manifest
    digest: str
    contents: Mapping[Role, bytes]

    def __getitem__(self, role: Role) -> bytes:
        if role not in self.contents:
            raise ArtifactError(
                f"Model {self.manifest.name!r}: its manifest lists no {role!r} file, only {sorted(self.contents)}; "
                f"engine {self.manifest.engine!r} needs one. Train and register the model again."
            )
        return self.contents[role]


def sha256(data: bytes) -> str:
    """The SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def json_value(value: Any) -> Any:
    """`value` with tuples as lists and numbers that are not finite as None, so that any JSON reader takes it."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def parse_manifest(data: bytes, *, where: str) -> Manifest:
    """The manifest in `data`, whose digest has been checked.

    Raises
    ------
    ArtifactError
        When it is not a manifest, or one of a later Penstock.
    """
    try:
        manifest = _manifest_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"Manifest {where}: {error}. Train and register the model again.") from error
    if manifest.format_version != FORMAT_VERSION:
        raise ArtifactError(
            f"Manifest {where}: format version is {manifest.format_version}; this Penstock reads {FORMAT_VERSION}. "
            "Use the Penstock that wrote it, or train the model again."
        )
    return manifest


def read_manifest(folder: Path, *, digest: str) -> Manifest:
    """A version's manifest alone, its digest checked; raises `ArtifactError` as `read_files` does."""
    data = _read(folder / MANIFEST_NAME, limit=MAX_MANIFEST_BYTES)
    _check_digest(data, expected=digest, where=folder / MANIFEST_NAME)
    return parse_manifest(data, where=str(folder / MANIFEST_NAME))


def read_files(folder: Path, *, digest: str) -> ModelFiles:
    """Read a version's folder, checking every byte before anything is parsed.

    Parameters
    ----------
    folder
        Where ``manifest.json`` and the files that it names lie.
    digest
        SHA-256 of the manifest, from the registry.

    Raises
    ------
    ArtifactError
        When a file is missing, or its size or digest differs.
    """
    manifest = read_manifest(folder, digest=digest)
    return ModelFiles(manifest, digest, {entry.role: _read_entry(folder, entry) for entry in manifest.files})


def _read_entry(folder: Path, entry: FileEntry) -> bytes:
    if Path(entry.name).name != entry.name or entry.name in {"", ".", ".."}:
        raise ArtifactError(
            f"Manifest in {folder}: it names the file {entry.name!r}; allowed are plain names inside the folder."
        )
    path = folder / entry.name
    data = _read(path, limit=entry.size)
    if len(data) != entry.size:
        raise ArtifactError(
            f"Model file {path}: size is {len(data):,} bytes; the manifest says {entry.size:,}. The file was cut; "
            "restore it from a backup or train and register the model again."
        )
    _check_digest(data, expected=entry.sha256, where=path)
    return data


def _read(path: Path, *, limit: int) -> bytes:
    """The file's bytes; one more than `limit` is never read."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ArtifactError(
            f"Model file {path}: {error.strerror}. Restore it from a backup or register the model again."
        ) from error
    if len(data) > limit:
        raise ArtifactError(
            f"Model file {path}: it is longer than the {limit:,} bytes allowed. Restore it from a backup or train and "
            "register the model again."
        )
    return data


def _check_digest(data: bytes, *, expected: str, where: Path) -> None:
    if (found := sha256(data)) != expected:
        raise ArtifactError(
            f"Model file {where}: SHA-256 is {found}; expected is {expected}. The file was changed after it was "
            "registered; restore it from a backup or train and register the model again."
        )
