"""A project, open and running: the only place that names concrete classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from penstock.app import contracts
from penstock.app.registries import open_registry
from penstock.app.settings import Settings, load_settings
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ModelError, NotFoundError, PlanError, SnapshotError
from penstock.core.time import to_us
from penstock.definitions.project import Project, load_project
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import StreamSource
from penstock.engine.answers import Answer, answers_of
from penstock.engine.history import LoggedFeatures, check_as_of, features_from_log
from penstock.engine.instant import Fold
from penstock.engine.local import LocalEngine, Processed
from penstock.engine.online import OnlineReader
from penstock.engine.recovery import Progress, catch_up, no_progress, schema_hash
from penstock.engine.training_set import driving_source
from penstock.models.loading import load_model
from penstock.models.registry import ModelRegistry, ModelVersion
from penstock.models.runtimes import ModelHandle
from penstock.plan.compile import compile_plan
from penstock.plan.nodes import EndpointNode, Plan
from penstock.stores.connection import ConnectionFactory, connect
from penstock.stores.ids import IdIndex
from penstock.stores.reader import ProjectReader
from penstock.stores.snapshots import Snapshot, SnapshotStore
from penstock.stores.sqlite import ProjectStore

if TYPE_CHECKING:
    from penstock.app.datasets import Dataset
    from penstock.engine.contract import Decoded

STATE_FOLDER = ".penstock"


def state_folder(root: Path) -> Path:
    """Where the project in `root` keeps what the running system needs."""
    return root / STATE_FOLDER


def store_path(root: Path) -> Path:
    """The database with the log, decisions and labels of the project in `root`."""
    return state_folder(root) / "penstock.db"


def spill_folder(root: Path) -> Path:
    """Where large answers about the project in `root` are kept aside while they are made."""
    return state_folder(root) / "tmp"


def plan_of(project: Project) -> Plan:
    """The plan of all of a project's services and endpoints."""
    services = [(service, stream_of(project, service)) for service in project.services.values()]
    if not services and not project.endpoints:
        raise PlanError(
            f"project {project.name!r}: it defines no FeatureService and no Endpoint, so there is nothing to run. "
            "Define one; see examples/fraud."
        )
    return compile_plan(services, project.endpoints.values())


def stream_of(project: Project, service: FeatureService) -> StreamSource:
    """The stream that a service's features are for: its endpoint's, its model's, else its views'."""
    for endpoint in project.endpoints.values():
        if endpoint.model.features is service:
            return endpoint.source
    for model in project.models.values():
        if model.features is service:
            return model.label.of
    return driving_source(service.features)


def registry_of(root: Path, *, clock: Clock | None = None) -> ModelRegistry:
    """The model registry of the project in `root`."""
    uri = load_settings(root).registry.uri
    return open_registry(root, uri, state=state_folder(root), clock=clock or SystemClock())


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Definitions that a running project can go on with: see `Runtime.prepare`."""

    project: Project
    plan: Plan
    fold: Fold
    handles: dict[str, ModelHandle]
    problems: dict[str, str]


class Runtime:
    """A project, open for writing: definitions, plan, store, engine, registry.

    Use it as a context manager. While it is open, ``source.ingest(...)`` and ``service.get_features_for_events(...)`` of
    its definitions work on it.
    """

    def __init__(
        self,
        project: Project,
        *,
        plan: Plan,
        settings: Settings,
        store: ProjectStore,
        ids: IdIndex,
        snapshots: SnapshotStore,
        registry: ModelRegistry,
        clock: Clock,
    ) -> None:
        self.project = project
        self.plan = plan
        self.settings = settings
        self.store = store
        self.registry = registry
        self.clock = clock
        self.skipped_snapshots: tuple[str, ...] = ()
        self.contract_changes: tuple[str, ...] = ()
        """Schemas that were accepted as new versions when the project was opened."""
        self.problems: dict[str, str] = {}
        """What does not work though the engine runs: by endpoint why its model does not serve, or ``snapshot``."""
        self._ids = ids
        self._snapshots = snapshots
        self._handles: dict[str, ModelHandle] = {}
        self._background = ThreadPoolExecutor(1, "penstock-snapshot")
        self._snapshot: Future[None] | None = None
        self._snapshot_at = 0
        self._snapshot_asked = 0
        self.engine: LocalEngine
        self.online: OnlineReader
        """Features by key, now."""

    @classmethod
    def open(
        cls,
        root: Path | str,
        *,
        project: Project | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        rebuild: bool = False,
        progress: Progress = no_progress,
        connection_factory: ConnectionFactory = connect,
    ) -> Runtime:
        """Open the project in `root`: recover state as newest good snapshot plus log tail, load the champions.

        Parameters
        ----------
        project, settings
            Loaded already; default: from the folder.
        rebuild
            Fold the whole log again instead of starting from a snapshot.
        progress
            Called with (rows folded, rows to fold) during recovery.
        connection_factory
            Opens the store's connections; tests put a failing disk under it.
        """
        path = Path(root)
        loaded = project or load_project(path)
        chosen = settings or load_settings(path)
        now = clock or SystemClock()
        plan = plan_of(loaded)
        with ExitStack() as undo:
            store = ProjectStore.open(
                store_path(path),
                durability=chosen.engine.durability,
                max_dead_letters=chosen.engine.max_dead_letters,
                max_pending_labels=chosen.engine.max_pending_labels,
                connection_factory=connection_factory,
            )
            undo.callback(store.close)
            ids = IdIndex.open(
                state_folder(path) / "ids",
                store_id=store.store_id,
                next_position=store.next_position,
                event_ids=store.event_ids,
            )
            undo.callback(ids.close)
            snapshots = SnapshotStore(state_folder(path) / "snapshots", store_id=store.store_id)
            history = contracts.read_history(state_folder(path))
            changed = contracts.judge(loaded, plan, store, history)
            contracts.check(changed)
            contracts.record(state_folder(path), plan, store, history, now_us=now.now_us())
            registry = registry_of(path, clock=now)
            runtime = cls(
                loaded,
                plan=plan,
                settings=chosen,
                store=store,
                ids=ids,
                snapshots=snapshots,
                registry=registry,
                clock=now,
            )
            runtime.contract_changes = tuple(one.text for one in changed)
            runtime._start(rebuild=rebuild, progress=progress)
            undo.pop_all()
        _ACTIVE.append(runtime)
        return runtime

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(snapshot=kind is None)

    def close(self, *, snapshot: bool = True) -> None:
        """Finish what is under way, write a snapshot, and let other processes open the project.

        Raises `StoreError` where the last micro-batch could not be stored; with ``snapshot=False``, after an error, not.
        """
        if self in _ACTIVE:
            _ACTIVE.remove(self)
        try:
            self.engine.close()
            self._background.shutdown(wait=True)
            if snapshot:
                self.engine.flush()  # nobody may have waited for it
            if snapshot and not self.engine.stopped and self.engine.position > self._snapshot_at:
                self._save(*self.engine.encoded(), None)
        finally:
            self._ids.close()
            self.store.close()

    def process(
        self,
        inputs: Sequence[tuple[str, Decoded]],
        *,
        by_time: bool = False,
        decide: bool = True,
        offsets: Mapping[str, str] | None = None,
        overlap: bool = True,
    ) -> Processed:
        """One micro-batch through the engine; a snapshot is taken in the background when one is due."""
        processed = self.engine.process(
            inputs, by_time=by_time, decide=decide, offsets=offsets, overlap=overlap
        )
        since = max(self._snapshot_at, self._snapshot_asked)
        if self.engine.position - since >= self.settings.engine.snapshot_rows:
            self.snapshot(processed.committed)
        return processed

    def ingest(
        self, source: str, events: bytes | Sequence[Mapping[str, Any]], *, with_features: bool = False
    ) -> list[Answer]:
        """Send events (dicts or NDJSON bytes) and return one answer each, when they are durable."""
        decoded = self.engine.decode(self.source_name(source), events)
        processed = self.process([(source, decoded)], overlap=False)
        return answers_of(processed.outcomes[0], self.plan, self.engine.rows, with_features=with_features)

    def note_histories(self) -> None:
        """Let the engine know up to which time the loaded histories of streams reach."""
        from penstock.app.stream_history import covered_by_history

        self.engine.flush()
        self.engine.covered |= covered_by_history(self.store.offsets())

    def snapshot(self, committed: Future[None] | None = None) -> None:
        """Write the state as it stands to a snapshot, in the background, once `committed` is durable."""
        if self._snapshot is not None and not self._snapshot.done():
            return
        if self._snapshot is not None and (error := self._snapshot.exception()) is not None:
            self.problems["snapshot"] = str(error)
        position, state = self.engine.encoded()
        self._snapshot_asked = position
        self._snapshot = self._background.submit(self._save, position, state, committed)

    def prepare(self, project: Project, *, stop: Callable[[], bool] = lambda: False) -> Prepared:
        """Make ready for the definitions of `project`, in any thread, while the engine goes on with its own.

        Folds what new views need from the log, and loads and verifies the models of new endpoints. `stop` ends it early.
        """
        plan = plan_of(project)
        contracts.check(contracts.judge(project, plan, self.store, self._contract_history()))
        fold = Fold(self.store, self.plan, plan)
        fold.approach(stop=stop)
        handles = {name: self._handles[name] for name in self._handles if self._goes_on(plan, name)}
        fresh = {name: endpoint for name, endpoint in plan.endpoints.items() if name not in handles}
        problems: dict[str, str] = {}
        self._load(replace(plan, endpoints=fresh), handles, problems)
        return Prepared(project, plan, fold, handles, problems)

    def adopt(self, prepared: Prepared) -> None:
        """Go on with prepared definitions, between two micro-batches and in the thread that processes them."""
        scorers = {name: _scorer(prepared.handles, name) for name in prepared.plan.endpoints}
        self.engine.adopt(prepared.plan, prepared.fold, scorers)
        for name in [*self.plan.endpoints, *prepared.plan.endpoints]:
            self.problems.pop(name, None)
        self.problems |= prepared.problems
        self.project, self.plan, self._handles = prepared.project, prepared.plan, prepared.handles
        try:
            contracts.record(
                state_folder(self.project.root),
                self.plan,
                self.store,
                self._contract_history(),
                now_us=self.clock.now_us(),
            )
        except OSError as error:  # the next start writes it
            self.problems["contracts"] = f"the schemas' versions could not be written ({error})"
        self.snapshot()  # those before are of another plan

    def _goes_on(self, plan: Plan, name: str) -> bool:
        """Whether the model that serves endpoint `name` serves it in `plan`, too."""
        old, new = self.plan.endpoints.get(name), plan.endpoints.get(name)
        if old is None or new is None or old.model != new.model:
            return False
        return self.plan.services[old.service].fingerprint == plan.services[new.service].fingerprint

    def load_champions(self) -> dict[str, ModelVersion]:
        """Load, verify and swap in the version in Production for each endpoint; returns those that changed.

        An endpoint whose version does not fit the definitions, or fails its checks, goes on with the model that it has, or
        decides without one (flag ``no_model``); `problems` says why.
        """
        return self._load(self.plan, self._handles, self.problems)

    def _load(
        self, plan: Plan, handles: dict[str, ModelHandle], problems: dict[str, str]
    ) -> dict[str, ModelVersion]:
        changed = {}
        for endpoint in plan.endpoints.values():
            live = next((v for v in self.registry.versions(endpoint.model) if v.stage == "Production"), None)
            handle = handles.get(endpoint.name)
            if live is None or (handle is not None and handle.current.version == live.label):
                continue
            try:
                _check_serves(plan, endpoint, live)
                model = load_model(live.folder, digest=live.digest, version=live.label)
            except (PlanError, ModelError) as error:
                problems[endpoint.name] = str(error)
                continue
            problems.pop(endpoint.name, None)
            if handle is None:
                handles[endpoint.name] = ModelHandle(model)
            else:
                handle.swap(model)
            changed[endpoint.name] = live
        return changed

    def features(
        self, service: str, *, as_of: str = "served", progress: Progress = no_progress
    ) -> LoggedFeatures:
        """The features of a service for all events in the log."""
        if service not in self.plan.services:
            raise NotFoundError(
                f"feature service {service!r} does not exist; there are {', '.join(self.plan.services)}."
            )
        self.engine.flush()
        return features_from_log(
            self.store, self.plan, self.plan.services[service], as_of=as_of, progress=progress
        )

    def dataset(
        self,
        service: str,
        *,
        label: str | None = None,
        as_of: str = "served",
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        label_delay: timedelta | None = None,
        progress: Progress = no_progress,
    ) -> Dataset:
        """Record the training set of a service as the log stands, so that it can be made again bit for bit.

        Parameters
        ----------
        label
            The label source; None for features alone.
        as_of
            ``"served"`` or ``"corrected"``, as in `features`.
        start_time, end_time
            Event times, from inclusive to exclusive; naive ones are UTC.
        label_delay
            Only labels that were known at most so long after their event count.
        """
        from penstock.app.dataset_rows import Question
        from penstock.app.datasets import record_dataset

        self.engine.flush()
        check_as_of(as_of)
        question = Question(
            as_of=as_of,
            position=self.store.next_position,
            label=label,
            start_us=None if start_time is None else to_us(start_time),
            end_us=None if end_time is None else to_us(end_time),
            label_delay_us=None if label_delay is None else to_us(label_delay),
        )
        return record_dataset(
            self.project.root, service, question, project=self.project, clock=self.clock, progress=progress
        )

    def source_name(self, source: str) -> str:
        """`source`, if the plan has it; else `NotFoundError` listing those that it has."""
        if source not in self.plan.sources:
            raise NotFoundError(
                f"source {source!r} is not in the plan; there are {', '.join(self.plan.sources)}. A source is in the plan "
                "when a service, model or endpoint uses it."
            )
        return source

    def _start(self, *, rebuild: bool, progress: Progress) -> None:
        if rebuild:
            self._snapshots.clear()
        search = self._snapshots.newest_good(
            fingerprint=self.plan.fingerprint,
            schema_hash=schema_hash(self.plan),
            next_position=self.store.next_position,
        )
        self.skipped_snapshots = tuple(f"{s.path.name}: {s.reason}" for s in search.skipped)
        newest = search.snapshot
        found = None if newest is None else (newest.position, newest.state)
        try:
            state = catch_up(self.store, self.plan, snapshot=found, progress=progress)
        except SnapshotError as error:
            self.skipped_snapshots += (str(error),)
            state = catch_up(self.store, self.plan, progress=progress)
        is_own = newest is not None and newest.fingerprint == self.plan.fingerprint
        self._snapshot_at = newest.position if newest is not None and is_own else 0
        self.load_champions()
        self.engine = LocalEngine(
            self.plan,
            store=self.store,
            ids=self._ids,
            clock=self.clock,
            features=state,
            scorers={name: _scorer(self._handles, name) for name in self.plan.endpoints},
            live=self.settings.engine.future_check,
        )
        self.online = OnlineReader(self.engine, self.clock)
        self.note_histories()

    def _contract_history(self) -> contracts.ContractHistory | None:
        return contracts.read_history(state_folder(self.project.root))

    def _save(self, position: int, state: bytes, committed: Future[None] | None) -> None:
        if committed is not None:
            committed.result()
        self._snapshots.save(
            Snapshot(
                position=position,
                fingerprint=self.plan.fingerprint,
                schema_hash=schema_hash(self.plan),
                state=state,
            )
        )
        self._snapshot_at = max(self._snapshot_at, position)


def _scorer(handles: Mapping[str, ModelHandle], endpoint: str) -> Callable[[], Any]:
    def current() -> Any:
        handle = handles.get(endpoint)
        return None if handle is None else handle.current

    return current


def _check_serves(plan: Plan, endpoint: EndpointNode, version: ModelVersion) -> None:
    service = plan.services[endpoint.service]
    trained = version.manifest().service_fingerprint
    if trained != service.fingerprint:
        raise PlanError(
            f"model {version.label!r}: it was trained on features with fingerprint {trained}, and service "
            f"{service.name!r} now has {service.fingerprint}: the definitions changed. Train again (penstock train "
            f"{endpoint.model}) or restore the definitions."
        )


_ACTIVE: list[Runtime] = []


def active() -> Runtime | None:
    """The runtime opened last in this process and not closed yet."""
    return _ACTIVE[-1] if _ACTIVE else None


def open_reader(root: Path) -> ProjectReader:
    """The project's store for reading, beside a running engine or without one."""
    return ProjectReader.open_reader(store_path(root))
