"""The offline store: Delta Lake tables, to which rows of the log are appended exactly once.

How "exactly once" is kept without a second ledger:

1. Rows of a table are appended in log order. The Delta transaction that adds them carries the position up to which
   the table is complete (`app_transactions`), so rows and position become durable together or not at all.
2. Whoever appends says from which position on. Where the table stands elsewhere, nothing is written.
3. Of two that append the same rows, Delta's own check lets one win: both name the same application.

On a local disk the files of a commit are synced before it counts as done (`penstock.stores.offline_sync`).

Statistics are kept of log positions only: the smallest and largest value of a column would leave keys in the tables'
logs, where forgetting could not reach them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from penstock.core.errors import CorruptionError, MissingDependencyError, NotFoundError, StoreError
from penstock.stores.offline_sync import local_folder, sync_commits, sync_removals

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

PositionArray = npt.NDArray[np.int64]

POSITION = "_position"
EVENT_DATE = "_event_date"
KINDS = ("events", "features", "decisions", "labels")

_DELETED_AT_ONCE = 2_000
_UNSURE_VERSIONS = 3
"""How many commits a process that was killed may have left unsynced."""
_SMALL_FILE_BYTES = 32 << 20
_WIDER = {("int32", "int64"), ("float", "double")}
_CONFIGURATION = {
    "delta.dataSkippingStatsColumns": POSITION,
    "delta.enableExpiredLogCleanup": "false",  # a data set may name any version
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """A table as it stands: its version, the position up to which it is complete, rows, files and bytes."""

    name: str
    version: int
    exported: int
    rows: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableVersion:
    """A version of a table that something rests on, and the position up to which it is complete."""

    version: int
    exported: int


class OfflineStore:
    """The tables under one folder or URI, by name: ``events/<source>``, ``features/<endpoint>`` and so on.

    Parameters
    ----------
    uri
        A folder, or the URI of an object store (``s3://bucket/path``; credentials come from the environment).
    store_id
        Of the project's store whose rows these are.
    """

    def __init__(self, uri: str, *, store_id: str) -> None:
        _deltalake()
        self.uri = uri.rstrip("/")
        self._app = f"penstock-{store_id}"

    def table(self, name: str) -> OfflineTable:
        """The table of this name, whether or not it exists yet."""
        return OfflineTable(name, f"{self.uri}/{name}", app=self._app)

    def names(self) -> list[str]:
        """The tables that exist, sorted."""
        from pyarrow import fs

        with _translated(self.uri, "listing"):
            system, root = (
                fs.FileSystem.from_uri(self.uri) if "://" in self.uri else (fs.LocalFileSystem(), self.uri)
            )
            found = []
            for kind in KINDS:
                below = system.get_file_info(fs.FileSelector(f"{root}/{kind}", allow_not_found=True))
                found += [f"{kind}/{one.base_name}" for one in below if one.type == fs.FileType.Directory]
        return sorted(name for name in found if self.table(name).exists())


class OfflineTable:
    """One table. What it says about itself is as of the last `refresh` (or its opening)."""

    def __init__(self, name: str, uri: str, *, app: str) -> None:
        self.name = name
        self._uri = uri
        self._app = app
        self._delta: DeltaTable | None = None
        self._is_settled = False

    def exists(self) -> bool:
        """Whether anything was ever written to it."""
        from deltalake import DeltaTable

        with _translated(self.name, "opening"):
            return bool(DeltaTable.is_deltatable(self._uri))

    def refresh(self) -> None:
        """See what was written meanwhile."""
        self._delta = None

    def at(self) -> TableVersion:
        """The newest version; raises `NotFoundError` where there is no table."""
        delta = self._opened()
        return TableVersion(version=delta.version(), exported=delta.transaction_version(self._app) or 0)

    def exported(self) -> int:
        """The position up to which the table is complete; 0 where there is none yet."""
        return self.at().exported if self._delta is not None or self.exists() else 0

    def append(self, rows: pa.Table, *, start: int, upto: int) -> None:
        """Append the rows of the log positions ``[start, upto)``, in one transaction.

        Parameters
        ----------
        rows
            With the columns `POSITION` and, where the table is to be partitioned, `EVENT_DATE`. Columns that the
            table does not have yet are added to it. A column that has a wider type now gets that in the whole table,
            which is rewritten.

        Raises
        ------
        StoreError
            The table is not complete up to `start` exactly, another process appended meanwhile, a column has another
            type there, or the rows cannot be written. Nothing of them is in the table then.
        """
        from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

        with _translated(self.name, f"appending positions {start} to {upto}"), self._durable():
            if self._delta is None:
                partition = [EVENT_DATE] if EVENT_DATE in rows.column_names else []
                DeltaTable.create(
                    self._uri,
                    rows.schema,
                    mode="ignore",
                    partition_by=partition,
                    configuration=_CONFIGURATION,
                )
            delta = self._opened()
            self._check_continues(start)
            self._widen(delta, rows)
            write_deltalake(
                delta,
                rows,
                mode="append",
                schema_mode="merge",
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(self._app, upto)], max_commit_retries=3
                ),
            )
            delta.update_incremental()

    def read(
        self, start: int, stop: int, *, columns: Sequence[str] | None = None, version: int | None = None
    ) -> pa.Table:
        """The rows at positions ``[start, stop)``, in log order, of the newest or an older version."""
        return next(self.windows(start, stop, columns=columns, version=version, rows=max(stop - start, 1)))

    def windows(
        self,
        start: int,
        stop: int,
        *,
        rows: int,
        columns: Sequence[str] | None = None,
        version: int | None = None,
    ) -> Iterator[pa.Table]:
        """The rows of each `rows` positions from `start` to `stop`, in log order, empty ones among them."""
        import pyarrow.dataset as ds

        with self._reading(version):
            whole = self._version(version).to_pyarrow_dataset()
        wanted = (
            None
            if columns is None
            else [c for c in dict.fromkeys([*columns, POSITION]) if c in whole.schema.names]
        )
        for first in range(start, max(stop, start + 1), rows):
            last = min(first + rows, stop)
            with self._reading(version):
                part = whole.to_table(
                    columns=wanted, filter=(ds.field(POSITION) >= first) & (ds.field(POSITION) < last)
                )
                yield part.sort_by(POSITION)

    def delete(self, predicates: Sequence[str]) -> int:
        """Delete the rows for which one of `predicates` holds; how many there were. Old versions still have them."""
        deleted = 0
        for predicate in predicates:
            with _translated(self.name, "deleting rows"), self._durable():
                deleted += int(self._opened().delete(predicate)["num_deleted_rows"])
        return deleted

    def compact(self) -> int:
        """Rewrite small files as larger ones; how many files were replaced. Old versions keep theirs."""
        with _translated(self.name, "compacting"), self._durable():
            return int(self._opened().optimize.compact()["numFilesRemoved"])

    def vacuum(
        self, *, keep: Collection[int] = (), retention_hours: int = 168, dry_run: bool = False
    ) -> list[str]:
        """Remove the files that neither the newest version nor one of `keep` needs; their names.

        Parameters
        ----------
        keep
            Versions that stay readable.
        retention_hours
            Files that went out of use later than that stay too.
        """
        with _translated(self.name, "vacuuming"):
            removed = self._opened().vacuum(
                retention_hours=retention_hours,
                dry_run=dry_run,
                enforce_retention_duration=False,
                full=True,
                keep_versions=sorted(keep) or None,
            )
            folder = local_folder(self._uri)
            if folder is not None and not dry_run:
                sync_removals(folder, removed)  # what was forgotten must not come back
            return removed

    def surplus_files(self) -> int:
        """How many small files there are beyond one a partition."""
        import pyarrow.compute as pc

        files = self._files()
        small = files.filter(pc.less(files.column("size_bytes"), _SMALL_FILE_BYTES))
        partition = f"partition.{EVENT_DATE}"
        partitions = (
            pc.count_distinct(small.column(partition)).as_py() if partition in small.column_names else 1
        )
        surplus: int = small.num_rows - partitions
        return max(surplus, 0)

    def status(self) -> TableStatus:
        """How it stands."""
        at, files = self.at(), self._files()
        rows = files.column("num_records").to_numpy().sum() if len(files) else 0
        sizes = files.column("size_bytes").to_numpy().sum() if len(files) else 0
        return TableStatus(
            name=self.name,
            version=at.version,
            exported=at.exported,
            rows=int(rows),
            files=len(files),
            bytes=int(sizes),
        )

    @contextmanager
    def _durable(self) -> Iterator[None]:
        """What is committed inside is on the disk behind it."""
        before = self._opened().version() if self._delta is not None or self.exists() else -1
        yield
        folder = local_folder(self._uri)
        if folder is not None:
            unsure = 0 if self._is_settled else _UNSURE_VERSIONS
            self._is_settled = False
            sync_commits(folder, after=max(before - unsure, -1))
            self._is_settled = True

    def _files(self) -> pa.Table:
        import pyarrow as pa

        with _translated(self.name, "reading"):
            return pa.table(self._opened().get_add_actions(flatten=True))

    def _opened(self) -> DeltaTable:
        if self._delta is None:
            if not self.exists():
                raise NotFoundError(
                    f"offline table {self.name!r} does not exist; nothing was exported to it yet. Run: penstock offline "
                    "sync."
                )
            self._delta = self._version(None)
        return self._delta

    def _version(self, version: int | None) -> DeltaTable:
        from deltalake import DeltaTable

        with self._reading(version):
            return DeltaTable(self._uri, version=version)

    @contextmanager
    def _reading(self, version: int | None) -> Iterator[None]:
        try:
            with _translated(self.name, "reading"):
                yield
        except FileNotFoundError as error:
            at = "its newest version" if version is None else f"its version {version}"
            raise CorruptionError(
                f"offline table {self.name!r}: a file of {at} is gone ({error.args[0]!s:.120}). It was vacuumed or removed; "
                "what rests on that version cannot be read any more."
            ) from error

    def _check_continues(self, start: int) -> None:
        found = self.at().exported
        if found != start:
            raise StoreError(
                f"offline table {self.name!r}: it is complete up to position {found}, and rows from {start} on were to be "
                "appended. Another process exported meanwhile; run the export again."
            )
        if found == 0 and len(self._files()):
            raise StoreError(
                f"offline table {self.name!r} in {self._uri}: it holds rows of another project, or of this one before it "
                "was started afresh. Move it away, or choose another place: uri of [offline] in penstock.toml."
            )

    def _widen(self, delta: DeltaTable, rows: pa.Table) -> None:
        """Give the table the wider types of `rows`; older versions keep theirs."""
        import pyarrow as pa
        from deltalake import write_deltalake

        there = pa.schema(delta.schema().to_arrow())
        wider = self._wider(there, rows.schema)
        if wider == there:
            return
        source = delta.to_pyarrow_dataset()
        batches = (pa.record_batch(batch.cast(wider)) for batch in source.to_batches(columns=wider.names))
        write_deltalake(
            delta,
            pa.RecordBatchReader.from_batches(wider, batches),
            mode="overwrite",
            schema_mode="overwrite",
            partition_by=delta.metadata().partition_columns or None,
        )
        delta.update_incremental()

    def _wider(self, there: pa.Schema, now: pa.Schema) -> pa.Schema:
        """`there` with the wider types that some of its columns have `now`."""
        for field in now:
            at = there.get_field_index(field.name)
            if at < 0 or there.field(at).type == field.type:
                continue
            if (str(there.field(at).type), str(field.type)) not in _WIDER:
                raise StoreError(
                    f"offline table {self.name!r}: column {field.name!r} is {there.field(at).type} there and "
                    f"{field.type} now; allowed is to add columns, and to widen numbers. Give the field or feature a new "
                    "name."
                )
            there = there.set(at, there.field(at).with_type(field.type))
        return there


def positions_predicates(column: str, positions: PositionArray) -> list[str]:
    """SQL predicates that together hold for the rows whose `column` is one of `positions`."""
    return [
        f"{column} IN ({', '.join(map(str, positions[i : i + _DELETED_AT_ONCE].tolist()))})"
        for i in range(0, len(positions), _DELETED_AT_ONCE)
    ]


@contextmanager
def _translated(name: str, doing: str) -> Iterator[None]:
    """Raise Delta's errors as ours; a missing file stays what it is."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except FileNotFoundError:
        raise
    except CommitFailedError as error:
        raise StoreError(
            f"offline table {name!r}: {doing} failed, since another process changed it meanwhile ({error}). Nothing "
            "was written; run it again."
        ) from error
    except (DeltaError, OSError) as error:
        raise StoreError(
            f"offline table {name!r}: {doing} failed: {error}. What was exported before is kept; mend it, then run "
            "penstock offline sync."
        ) from error


def _deltalake() -> Any:
    try:
        import deltalake
    except ImportError as error:
        raise MissingDependencyError(
            "offline store: deltalake is not installed. Run: pip install 'penstock[offline]'."
        ) from error
    return deltalake
