"""Training sets that can be made again, bit for bit, after more data came.

A data set is recorded, not copied: its record names the versions of the offline tables that hold what it was computed
from, the definitions by fingerprint, what was asked, and the digest of every value. Making it again folds those versions
with the same functions as live, and compares the digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.app.dataset_rows import DatasetDigest, Question, Wanted, dataset_schema, dataset_tables
from penstock.app.exporting import exporter_of, offline_uri
from penstock.app.offline_log import OfflineLog
from penstock.app.runtime import open_reader, plan_of, spill_folder, state_folder, stream_of
from penstock.app.settings import load_settings
from penstock.core.errors import CorruptionError, NotFoundError, PlanError, StoreError
from penstock.definitions.project import Project, load_project
from penstock.engine.feature_stream import FeatureStream
from penstock.engine.history import LoggedFeatures, feature_parts
from penstock.engine.recovery import Progress, no_progress
from penstock.plan.compile import compile_plan, source_node
from penstock.stores.offline import OfflineStore, TableVersion
from penstock.stores.spill import SpillFile

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.core.clock import Clock
    from penstock.engine.ports import LogReader

FORMAT_VERSION = 1
_ID = re.compile(r"ds-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The record of a training set.

    Attributes
    ----------
    id
        ``ds-`` and a digest of what it holds and was made from: the same set has the same id.
    service, service_fingerprint, plan_fingerprint
        Whose features they are, and the definitions that computed them.
    question
        What was asked: order, log length, times, label delay.
    tables
        By offline table the version that holds its events or labels.
    rows, columns, digest
        How many rows, names of the columns, and the SHA-256 of all values.
    penstock
        The version of Penstock that made it.
    created_us
        When, in microseconds UTC.
    unavailable
        Why it cannot be made again; None where it can.
    """

    id: str
    service: str
    service_fingerprint: str
    plan_fingerprint: str
    question: Question
    tables: dict[str, TableVersion]
    rows: int
    columns: tuple[str, ...]
    digest: str
    penstock: str
    created_us: int
    unavailable: str | None = None
    format_version: int = FORMAT_VERSION


_dataset_decoder = msgspec.json.Decoder(Dataset)


class DatasetFolder:
    """The records of a project's data sets."""

    def __init__(self, root: Path) -> None:
        self._folder = state_folder(root) / "datasets"

    def all(self) -> list[Dataset]:
        """Every record, oldest first."""
        found = [self._read(path) for path in sorted(self._folder.glob("ds-*.json"))]
        return sorted(found, key=lambda one: (one.created_us, one.id))

    def get(self, dataset: str) -> Dataset:
        """The record of this id; `NotFoundError` lists the newest ones."""
        path = self._folder / f"{dataset}.json"
        if _ID.fullmatch(dataset) is None or not path.is_file():
            listed = ", ".join(one.id for one in self.all()[-10:]) or "none"
            raise NotFoundError(
                f"data set {dataset!r} does not exist; there are {listed}. See: penstock dataset list."
            )
        return self._read(path)

    def save(self, dataset: Dataset) -> None:
        """Write a record; it appears whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{dataset.id}.json"
        aside = path.with_name(path.name + ".tmp")
        aside.write_bytes(msgspec.json.format(msgspec.json.encode(dataset), indent=1) + b"\n")
        aside.replace(path)

    def versions_in_use(self) -> dict[str, set[int]]:
        """By table the versions that data sets need."""
        found: dict[str, set[int]] = {}
        for dataset in self.all():
            if dataset.unavailable is None:
                for name, at in dataset.tables.items():
                    found.setdefault(name, set()).add(at.version)
        return found

    def mark_forgotten(self, position: int, *, reason: str) -> list[str]:
        """Mark the data sets whose tables held rows at `position` or after as not to be made again; their ids."""
        marked = []
        for dataset in self.all():
            held = max((at.exported for at in dataset.tables.values()), default=0)
            if dataset.unavailable is None and max(held, dataset.question.position) > position:
                self.save(replace(dataset, unavailable=reason))
                marked.append(dataset.id)
        return marked

    @staticmethod
    def _read(path: Path) -> Dataset:
        try:
            return _dataset_decoder.decode(path.read_bytes())
        except msgspec.DecodeError as error:
            raise CorruptionError(
                f"data set record {path}: {error}. Restore it from a backup, or remove it."
            ) from error


def record_dataset(
    root: Path,
    service: str,
    question: Question,
    *,
    clock: Clock,
    project: Project | None = None,
    log: LogReader | None = None,
    parts: Iterable[LoggedFeatures] | None = None,
    progress: Progress = no_progress,
) -> Dataset:
    """Export the log, compute a training set from it, and record it.

    Parameters
    ----------
    question
        What is asked; see `Question`.
    log
        A reader of the project's log; default: one of its own.
    parts
        The features, where they are computed already: all events before the question's position.
    """
    loaded = project or load_project(root)
    wanted = _wanted(loaded, service, question)
    tables = _export(root, loaded, wanted)
    schema = dataset_schema(wanted)
    digest = DatasetDigest(schema)
    with ExitStack() as closing:
        store = log or closing.enter_context(open_reader(root))
        made = parts or _parts(store, wanted, question, closing, root=root, progress=progress)
        for table in dataset_tables(store, wanted, question, parts=made):
            digest.update(table)
    return _saved(
        root, wanted, question, tables=tables, digest=digest, schema=schema, created_us=clock.now_us()
    )


def rebuild_dataset(
    root: Path, dataset: str, *, project: Project | None = None, progress: Progress = no_progress
) -> FeatureStream:
    """The rows of a recorded training set, made again from the table versions that it names.

    Parameters
    ----------
    project
        Loaded already; default: from the folder.

    Raises
    ------
    StoreError
        It was marked as not to be made again, or a file of a version is gone.
    PlanError
        The definitions have changed since.
    CorruptionError
        At the end of reading: the rows are not those that were recorded.
    """
    record = DatasetFolder(root).get(dataset)
    if record.unavailable is not None:
        raise StoreError(f"data set {record.id}: it cannot be made again: {record.unavailable}.")
    wanted = _wanted(project or load_project(root), record.service, record.question)
    _check_definitions(record, wanted)
    with open_reader(root) as reader:
        uri = offline_uri(root, load_settings(root).offline)
        offline = OfflineStore(uri, store_id=reader.store_id)
    log = OfflineLog(offline, record.tables, wanted.sources, position=record.question.position)
    schema = dataset_schema(wanted)

    def tables() -> Iterator[pa.Table]:
        digest = DatasetDigest(schema)
        with ExitStack() as closing:
            parts = _parts(log, wanted, record.question, closing, root=root, progress=progress)
            for table in dataset_tables(log, wanted, record.question, parts=parts):
                digest.update(table)
                yield table
        _check_digest(record, digest)

    features = [output.name.replace(".", "__") for output in wanted.service.outputs]
    return FeatureStream(tables, schema, tuple(features))


def _parts(
    log: LogReader,
    wanted: Wanted,
    question: Question,
    closing: ExitStack,
    *,
    root: Path,
    progress: Progress,
) -> Iterator[LoggedFeatures]:
    shelf = closing.enter_context(SpillFile(spill_folder(root)))
    return feature_parts(
        log,
        wanted.plan,
        wanted.service,
        as_of=question.as_of,
        stop=question.position,
        shelf=shelf,
        progress=progress,
    )


def _wanted(project: Project, name: str, question: Question) -> Wanted:
    if name not in project.services:
        raise NotFoundError(
            f"feature service {name!r} does not exist; there are {', '.join(project.services) or 'none'}. Restore its "
            "definition, or choose another."
        )
    stream = stream_of(project, project.services[name])
    plan = compile_plan([(project.services[name], stream)])
    sources = dict(plan.sources)
    for label in project.label_sources.values():  # labels of one stream stand together
        if label.of.name in sources and (question.label is not None or label.name in sources):
            sources[label.name] = source_node(label)
    if question.label is not None and question.label not in sources:
        raise NotFoundError(
            f"label source {question.label!r} is none of {stream.name!r}; there are "
            f"{', '.join(n for n, s in sources.items() if s.label_of == stream.name) or 'none'}. Name one of them."
        )
    return Wanted(plan, plan.services[name], sources.get(str(question.label)), sources)


def _export(root: Path, project: Project, wanted: Wanted) -> dict[str, TableVersion]:
    """Export the log as it stands, and return the table versions that hold it."""
    with exporter_of(root, plan_of(project)) as exporter:
        exporter.sync()
        found = exporter.versions()
    names = [f"{'events' if s.label_of is None else 'labels'}/{s.name}" for s in wanted.sources.values()]
    return {name: found[name] for name in names if name in found}


def _saved(
    root: Path,
    wanted: Wanted,
    question: Question,
    *,
    tables: dict[str, TableVersion],
    digest: DatasetDigest,
    schema: pa.Schema,
    created_us: int,
) -> Dataset:
    from penstock import __version__

    node = wanted.service
    values = digest.hexdigest()
    named = msgspec.json.encode(
        [node.name, node.fingerprint, wanted.plan.fingerprint, question, digest.rows, values]
    )
    dataset = Dataset(
        id=f"ds-{sha256(named).hexdigest()[:12]}",
        service=node.name,
        service_fingerprint=node.fingerprint,
        plan_fingerprint=wanted.plan.fingerprint,
        question=question,
        tables=tables,
        rows=digest.rows,
        columns=tuple(schema.names),
        digest=values,
        penstock=__version__,
        created_us=created_us,
    )
    DatasetFolder(root).save(dataset)
    return dataset


def _check_definitions(record: Dataset, wanted: Wanted) -> None:
    found = (wanted.service.fingerprint, wanted.plan.fingerprint)
    recorded = (record.service_fingerprint, record.plan_fingerprint)
    if found != recorded:
        raise PlanError(
            f"data set {record.id}: it was made by definitions with the fingerprints {' and '.join(recorded)} (service "
            f"{record.service!r}, its sources and views), and the project now has {' and '.join(found)}. Only the same "
            "definitions give the same values: check out those that made it, and rebuild there."
        )


def _check_digest(record: Dataset, digest: DatasetDigest) -> None:
    found = digest.hexdigest()
    if digest.rows != record.rows or found != record.digest:
        raise CorruptionError(
            f"data set {record.id}: {digest.rows:,} rows with digest {found[:12]} were made; recorded are {record.rows:,} "
            f"with {record.digest[:12]}. A table was changed by someone else, or Penstock {record.penstock} computed "
            "otherwise. Check the tables, or use that version."
        )
