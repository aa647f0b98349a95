"""The model registry in MLflow, which only this module and `mlflow_runs` import.

A version is a run (`penstock.models.mlflow_runs`) and a version of MLflow's registered model of the same name. Aliases and the tag
``stage`` mirror what the history says.

MLflow has no history and no compare-and-set. Ours is a registered model of its own, one version a row: the server numbers
versions in one order, so that of two rows written at once the first counts. A row names the hash of the row before; one that
names an older row came too late, is void, and is written again. What may be relied on, and what not: ``docs/models.md``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.errors import (
    ArtifactError,
    CorruptionError,
    MissingDependencyError,
    NotFoundError,
    StoreError,
)
from penstock.core.types import check_name
from penstock.models.history import HistoryRow
from penstock.models.manifest import MANIFEST_NAME, read_files, sha256
from penstock.models.mlflow_runs import FILES, MODEL, is_plain, log_run
from penstock.models.numbered_log import FoldedLog, fold, written
from penstock.models.registry import check_title
from penstock.models.seen_history import SeenHistory
from penstock.models.versions import Decide, ModelVersion, VersionsByHistory, next_row, replayed

if TYPE_CHECKING:
    from penstock.core.clock import Clock
    from penstock.models.manifest import ModelFiles

HISTORY = "penstock-history"
REPORTS = "reports"
STAGE_TAG, DIGEST_TAG = "stage", "penstock.digest"
_IN_USE = ("Staging", "Production")
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # what commands print there is JSON
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds without an answer
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""Unless they are set: with MLflow's own, a server that is away would be waited for for minutes."""
_TRIES = 20
_PAGE = 1000


class MlflowRegistry(VersionsByHistory):
    """A registry on an MLflow tracking server, or on its database.

    Parameters
    ----------
    uri
        ``http://host:5000``, or a database such as ``sqlite:///mlflow.db``.
    cache
        Where versions that are used here are kept, and the newest hash that was seen.
    clock
        Dates the history.
    history_name
        The registered model that holds the history.

    Raises
    ------
    MissingDependencyError
        Where mlflow is not installed.
    StoreError
        Where MLflow does not answer within seconds, or refuses.
    """

    def __init__(self, uri: str, *, cache: Path, clock: Clock, history_name: str = HISTORY) -> None:
        for setting, value in _SETTINGS.items():
            os.environ.setdefault(setting, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise MissingDependencyError(
                f"Model registry {uri}: it needs MLflow. Install penstock[mlflow]."
            ) from error
        self._uri, self._history_name = uri, history_name
        self._cache = cache.absolute()
        self._clock = clock
        self._history_seen = SeenHistory(self._cache, history_name)
        self._newest_read: tuple[int, str, str] | None = None
        with self._speaking():
            self._client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def register(self, files: ModelFiles, *, actor: str, reason: str) -> ModelVersion:
        """Store `files` as a run and a version of MLflow's registered model, in stage None.

        A crash on the way leaves a run, or a version that our history does not know, and that is not used.
        """
        name = check_name(files.manifest.name, what="Model")
        with self._speaking():
            run_id = log_run(self._client, files, uri=self._uri, now_us=self._clock.now_us())
            source = MODEL if is_plain(files) else FILES
            self._ensure_model(name, "Versions registered by Penstock.")
            version = int(
                self._client.create_model_version(
                    name,
                    source=f"{self._client.get_run(run_id).info.artifact_uri}/{source}",
                    run_id=run_id,
                    tags={DIGEST_TAG: files.digest, STAGE_TAG: "None"},
                    description=reason,
                ).version
            )

        def decide(rows: Sequence[HistoryRow], now_us: int) -> HistoryRow:
            return next_row(
                rows, now_us, name, version,
                action="register", stage="None", actor=actor, reason=reason, digest=files.digest,
            )  # fmt: skip

        self._append(decide)
        return self.get(name, version)

    def get(self, name: str, version: int | str) -> ModelVersion:
        """The version with number or alias `version`, its files at hand; see `VersionsByHistory.get`."""
        found = super().get(name, version)
        self._fetch(found)
        return found

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """All versions of `name`, oldest first; the files of those in use, or with an alias, are at hand.

        While MLflow does not answer: those that this machine has seen last, and `away` says why. Nothing else goes by them.
        """
        try:
            found = super().versions(name)
        except CorruptionError:
            raise
        except StoreError as error:
            known = tuple(row for row in self._history_seen.rows() if row.name == name)
            if not known:
                raise
            self.away = str(error)
            return replayed(known, self._folder_of)
        self.away = ""
        for version in found:
            if version.aliases or version.stage in _IN_USE:
                with suppress(ArtifactError):  # whoever reads its files is told
                    self._fetch(version)
        return found

    def attach(self, name: str, version: int, title: str, data: bytes) -> None:
        """Keep `data` with the version's run, under ``reports/``."""
        check_title(title)
        run_id = self._run_of(name, version)
        with tempfile.TemporaryDirectory() as folder, self._speaking():
            path = Path(folder) / title
            path.write_bytes(data)
            self._client.log_artifact(run_id, str(path), REPORTS)

    def attachment(self, name: str, version: int, title: str) -> bytes:
        """What `attach` kept; raises `NotFoundError` where there is nothing of that title."""
        run_id, kept = self._run_of(name, version), self.attachments(name, version)
        with tempfile.TemporaryDirectory() as folder, self._speaking():
            if check_title(title) not in kept:
                listed = ", ".join(kept) or "nothing"
                raise NotFoundError(
                    f"Model {name}:{version}: no {title!r} is kept with it; there is {listed}."
                )
            return Path(self._client.download_artifacts(run_id, f"{REPORTS}/{title}", folder)).read_bytes()

    def attachments(self, name: str, version: int) -> tuple[str, ...]:
        """The titles of what `attach` kept, sorted."""
        run_id = self._run_of(name, version)
        with self._speaking():
            return tuple(sorted(Path(one.path).name for one in self._client.list_artifacts(run_id, REPORTS)))

    def history(self, name: str | None = None) -> tuple[HistoryRow, ...]:
        """What happened, oldest first: to one model or to all.

        Raises
        ------
        CorruptionError
            Where rows were changed or removed, also the newest that this machine has seen.
        """
        return tuple(row for row in self._read().rows if name is None or row.name == name)

    def verify(self) -> int:
        """Check the history, the files of every version as MLflow has them, the reports, and what mirrors the history.

        Raises
        ------
        CorruptionError
            When the history or a report was changed, or an alias or stage was moved by another hand.
        ArtifactError
            When a file was.
        """
        rows = self.history()
        for name in self.names():
            self._verify_mirror(name)
            for version in replayed((row for row in rows if row.name == name), self._folder_of):
                with tempfile.TemporaryDirectory() as folder:
                    read_files(self._download(version, Path(folder)), digest=version.digest)
        for row in rows:
            self.report(row)
        return len(rows)

    def head(self) -> str:
        """The newest row's hash. Where that row was read before, by this object, no other is asked for."""
        with self._speaking():
            newest = self._client.search_model_versions(
                f"name='{self._history_name}'", max_results=1, order_by=["version_number DESC"]
            )
        known = self._newest_read
        if known is not None and [(int(one.version), one.description) for one in newest] == [known[:2]]:
            return known[2]
        return self._read().head

    # --- the history ------------------------------------------------------------------------------

    def _append(self, decide: Decide) -> None:
        for _ in range(_TRIES):
            log = self._read()
            row = decide(log.rows, self._clock.now_us())
            if row is None:
                return
            if self._write(row, previous=log.head) in self._read().numbers:
                self._mirror(row.name)
                return
        raise StoreError(
            f"Model registry {self._uri}: {_TRIES} times somebody else wrote to the history first. Try again."
        )

    def _write(self, row: HistoryRow, *, previous: str) -> int:
        """Write a row that follows the one with hash `previous`; its number, whether or not it counts."""
        run_id = self._run_of(row.name, row.version)
        with self._speaking():
            self._ensure_model(self._history_name, "What happened to models: append-only, kept by Penstock.")
            made = self._client.create_model_version(
                self._history_name,
                source=f"runs:/{run_id}/{FILES}",
                run_id=run_id,
                description=written(row, previous=previous),
            )
        return int(made.version)

    def _read(self) -> FoldedLog:
        """The rows that count, checked."""
        seen = self._history_seen.head()  # before the rows: another process may see newer ones meanwhile
        found = {int(one.version): one.description for one in self._all_versions(self._history_name)}
        log = fold(found, where=f"{self._history_name!r} in {self._uri}")
        self._check_seen(log, seen)
        newest = max(found, default=None)
        self._newest_read = None if newest is None else (newest, found[newest], log.head)
        return log

    def _check_seen(self, log: FoldedLog, seen: str) -> None:
        """Whether the newest row that this machine had seen is still there; then remember the newest now."""
        if seen not in log.hashes:
            raise CorruptionError(
                f"Model history in {self._uri}: it ends after {len(log.rows)} rows, and this machine has seen a later one "
                f"({seen[:12]}). Restore MLflow's database from a backup; if this is another registry, remove "
                f"{self._history_seen.path}."
            )
        self._history_seen.remember(log)

    def _all_versions(self, name: str) -> Iterator[Any]:
        token = None
        while True:
            with self._speaking():
                page = self._client.search_model_versions(
                    f"name='{name}'", max_results=_PAGE, page_token=token
                )
            yield from page
            token = page.token
            if not token:
                return

    # --- what mirrors it --------------------------------------------------------------------------

    def _mirror(self, name: str) -> None:
        """Put aliases and stages where the history says they are."""
        with self._speaking():
            aliases, stages = self._mirrored(name)
            wanted_aliases, wanted_stages = self._wanted(name)
            for alias, version in wanted_aliases.items():
                if aliases.get(alias) != version:
                    self._client.set_registered_model_alias(name, alias, str(version))
            for alias in aliases.keys() - wanted_aliases.keys():
                self._client.delete_registered_model_alias(name, alias)
            for number, stage in wanted_stages.items():
                if stages.get(number) != stage:
                    self._client.set_model_version_tag(name, str(number), STAGE_TAG, stage)

    def _verify_mirror(self, name: str) -> None:
        with self._speaking():
            found, wanted = self._mirrored(name), self._wanted(name)
        if found != wanted:
            raise CorruptionError(
                f"Model {name!r} in {self._uri}: aliases are {found[0]} and stages {found[1]}; by the history they are "
                f"{wanted[0]} and {wanted[1]}. Somebody moved them by another way: promote or archive with Penstock."
            )

    def _mirrored(self, name: str) -> tuple[dict[str, int], dict[int, str]]:
        """Our aliases and stages as MLflow has them, for the versions of the history."""
        own = self._wanted(name)[1]
        aliases = self._client.get_registered_model(name).aliases
        tags = {int(one.version): one.tags.get(STAGE_TAG, "") for one in self._all_versions(name)}
        ours = {"champion", "challenger", "previous"}
        return (
            {alias: int(version) for alias, version in aliases.items() if alias in ours},
            {number: stage for number, stage in tags.items() if number in own},
        )

    def _wanted(self, name: str) -> tuple[dict[str, int], dict[int, str]]:
        found = replayed(self.history(name), self._folder_of)
        aliases = {str(alias): one.version for one in found for alias in one.aliases}
        return aliases, {one.version: str(one.stage) for one in found}

    # --- files ---------------------------------------------------------------------------

    def _ensure_model(self, name: str, description: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            try:
                self._client.create_registered_model(name, description=description)
            except MlflowException as raced:
                if raced.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def _run_of(self, name: str, version: int) -> str:
        with self._speaking():
            return str(self._client.get_model_version(name, str(version)).run_id)

    def _folder_of(self, name: str, version: int) -> Path:
        return self._cache / name / str(version)

    def _fetch(self, version: ModelVersion) -> None:
        """Bring a version's files here, where they are not: checked before they are put in their place."""
        if not version.folder.resolve().is_relative_to(self._cache.resolve()):
            raise CorruptionError(
                f"Model {version.label}: its folder {version.folder} leads out of {self._cache}. Remove what was put there."
            )
        manifest = version.folder / MANIFEST_NAME
        if manifest.is_file() and sha256(manifest.read_bytes()) == version.digest:
            return
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache, prefix=".incoming-") as folder:
            found = self._download(version, Path(folder))
            read_files(found, digest=version.digest)
            version.folder.parent.mkdir(exist_ok=True)
            shutil.rmtree(version.folder, ignore_errors=True)
            found.rename(version.folder)

    def _download(self, version: ModelVersion, folder: Path) -> Path:
        run_id = self._run_of(version.name, version.version)
        with self._speaking():
            return Path(self._client.download_artifacts(run_id, FILES, str(folder)))

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Translate MLflow's errors."""
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            yield
        except (MlflowException, RequestException) as error:
            raise StoreError(
                f"Model registry {self._uri}: {str(error)[:500]}. Check the address, that the server runs, and that you may "
                "write there."
            ) from error
