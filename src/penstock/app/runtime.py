"""A project, open and running: the only place that names concrete classes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec import structs

from penstock.app import contracts
from penstock.app.applied import AppliedHistory
from penstock.app.list_asks import ListAsks
from penstock.app.registries import open_registry
from penstock.app.routing import Routes
from penstock.app.settings import Settings, load_settings
from penstock.app.shadowing import Shadows
from penstock.app.snapshotting import Snapshots, Snapshotting
from penstock.app.storing import (  # noqa: F401 - the places of a project's files are found here, too
    STATE_FOLDER,
    open_reader,
    open_store,
    shard_folder,
    snapshots_of,
    state_folder,
    store_path,
)
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import NotFoundError, PlanError
from penstock.core.time import to_us
from penstock.definitions.models import check_gate_segments
from penstock.definitions.project import Project, load_project
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import StreamSource
from penstock.engine.admission import id_seed
from penstock.engine.answers import Answer, answers_of
from penstock.engine.card_numbers import CardTokens
from penstock.engine.decision_rows import rows_of
from penstock.engine.effects import NO_CHANGES, LetterChanges
from penstock.engine.history import LoggedFeatures, check_as_of, features_from_log
from penstock.engine.instant import Fold
from penstock.engine.local import LocalEngine, Processed
from penstock.engine.online import OnlineReader
from penstock.engine.provenance import find_event
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.row_ids import RowIds
from penstock.engine.training_set import driving_source
from penstock.kernel.hashing import encode_keys, hash_text
from penstock.models.loading import Kept
from penstock.models.registry import ModelRegistry, ModelVersion
from penstock.plan.compile import compile_plan
from penstock.plan.nodes import Plan
from penstock.stores.audit_log import AuditLog
from penstock.stores.connection import ConnectionFactory, connect
from penstock.stores.ids import IdIndex, claimed
from penstock.stores.secrets import kept_secret
from penstock.stores.writing import WritableStore

if TYPE_CHECKING:
    from penstock.app.datasets import Dataset
    from penstock.engine.contract import Decoded


def spill_folder(root: Path) -> Path:
    """Where large answers about the project in `root` are kept aside while they are made."""
    return state_folder(root) / "tmp"


def learned_path(root: Path, shard: str = "") -> Path:
    """What the learners of the project in `root` know, whichever registry it has: a cache, see `penstock.app.learning`."""
    return (shard_folder(root, shard) / "online").absolute()


def shadow_path(root: Path, shard: str = "") -> Path:
    """The scores of the shadow arms of the project in `root`."""
    return shard_folder(root, shard) / "shadows.db"


def plan_of(project: Project) -> Plan:
    """The plan of all of a project's services and endpoints, and of the labels of its models."""
    services = [(service, stream_of(project, service)) for service in project.services.values()]
    if not services and not project.endpoints:
        raise PlanError(
            f"project {project.name!r}: it defines no FeatureService and no Endpoint, so there is nothing to run. "
            "Define one; see examples/fraud."
        )
    _check_unlabelled(project)
    labels = [model.label for model in project.models.values() if model.label is not None]
    return compile_plan(services, project.endpoints.values(), labels=labels)


def _check_unlabelled(project: Project) -> None:
    """Of a model with labels its definition has checked the gate's segments; one without does not know its stream."""
    models = [
        *project.models.values(),
        *(one for endpoint in project.endpoints.values() for one in endpoint.models),
    ]
    for model in models:
        if model.label is None and model.gate.segments is not None:
            source = stream_of(project, model.features)
            check_gate_segments(model.gate, model.features, source, owner=f"Model {model.name!r}")


def stream_of(project: Project, service: FeatureService) -> StreamSource:
    """The stream that a service's features are for: its endpoint's, its model's, else its views'."""
    for endpoint in project.endpoints.values():
        if service is endpoint.features or any(service is model.features for model in endpoint.models):
            return endpoint.source
    for model in project.models.values():
        if model.features is service and model.label is not None:
            return model.label.of
    return driving_source(service.features)


def registry_of(root: Path, *, clock: Clock | None = None) -> ModelRegistry:
    """The model registry of the project in `root`."""
    uri = load_settings(root).registry.uri
    return open_registry(root, uri, state=state_folder(root), clock=clock or SystemClock())


def audit_log_of(root: Path, *, clock: Clock | None = None) -> AuditLog:
    """The audit log of the project in `root`."""
    return AuditLog(state_folder(root) / "audit.db", clock=clock or SystemClock())


def card_tokens_of(root: Path) -> CardTokens:
    """What takes the place of card numbers in the project in `root`; its key is made with the first of them."""
    return CardTokens(lambda: kept_secret(state_folder(root) / "card_tokens.key"))


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Definitions that a running project can go on with: see `Runtime.prepare`."""

    project: Project
    plan: Plan
    fold: Fold
    routes: Routes
    problems: dict[str, str]
    version: int = 0


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
        store: WritableStore,
        ids: IdIndex,
        snapshots: Snapshots,
        registry: ModelRegistry,
        clock: Clock,
        shard: str = "",
        planned: Callable[[Project], Plan] = plan_of,
        version: int = 0,
    ) -> None:
        self._planned = planned
        self.version = version
        """Which applied version of the definitions it runs; 0 where none was applied."""
        self.shard = shard
        """Which part of the keys it has; empty where it has all."""
        self.project = project
        self.plan = plan
        self.settings = settings
        self.store = store
        self.registry = registry
        self.routes = Routes(
            plan,
            registry,
            audit_log_of(project.root, clock=clock),
            states=Kept(learned_path(project.root, shard), store.store_id),
        )
        """Which model versions decide."""
        self.shadows = Shadows(shadow_path(project.root, shard))
        self.clock = clock
        self.contract_changes: tuple[str, ...] = ()
        """Schemas that were accepted as new versions when the project was opened."""
        self.problems = store.problems
        self.withheld_reasons: Counter[str] = Counter()
        """By endpoint the decisions since the start whose reasons did not fit the score, and were left out."""
        """What does not work though the engine runs: by endpoint why its model does not serve, ``snapshot``, or ``store`` while its server is away."""
        self.list_asks = ListAsks()
        """Changes of lists that other threads ask for."""
        self.url = ""
        """Where its HTTP API listens, if it does."""
        self._ids = ids
        self._snapshots = Snapshotting(
            snapshots, every_rows=settings.engine.snapshot_rows, problems=self.problems
        )
        self._contracts: contracts.ContractHistory
        self.engine: LocalEngine
        self.online: OnlineReader
        """Features by key, now."""

    @classmethod
    def open(
        cls,
        root: Path | str,
        *,
        project: Project | None = None,
        shard: str = "",
        settings: Settings | None = None,
        clock: Clock | None = None,
        rebuild: bool = False,
        progress: Progress = no_progress,
        connection_factory: ConnectionFactory = connect,
        take_over: bool = False,
        planned: Callable[[Project], Plan] = plan_of,
        version: int | None = None,
    ) -> Runtime:
        """Open the project in `root`: recover state as newest good snapshot plus log tail, load the champions.

        Parameters
        ----------
        project, settings
            Loaded already; default: from the folder.
        shard
            Open this shard's store and state instead of those of a project that is whole.
        rebuild
            Fold the whole log again instead of starting from a snapshot.
        progress
            Called with (rows folded, rows to fold) during recovery.
        connection_factory
            Opens the connections to a SQLite file; tests put a failing disk under it.
        take_over
            Whether to end another writer of a store in PostgreSQL, which may be frozen or cut off, instead of being refused.
        planned
            Gives the plan of a project, now and whenever other definitions are to be taken over; raises where these cannot be.
        version
            Which applied version `project` is; later ones are taken over. Default: the newest.
        """
        path = Path(root)
        newest = AppliedHistory(state_folder(path)).newest_version()  # before the files are read
        loaded = project or load_project(path)
        chosen = settings or load_settings(path)
        now = clock or SystemClock()
        plan = planned(loaded)
        folder = shard_folder(path, shard)
        with ExitStack() as undo:
            store = open_store(
                path, chosen, shard=shard, take_over=take_over, connection_factory=connection_factory
            )
            undo.callback(store.close)
            ids = IdIndex.open(
                claimed(folder / "ids", store.epoch),
                store_id=store.store_id,
                next_position=store.next_position,
                event_ids=store.event_ids,
            )
            undo.callback(ids.close)
            snapshots = snapshots_of(path, chosen, store_id=store.store_id, shard=shard)
            history = contracts.read_history(folder)
            changed = contracts.judge(loaded, plan, store, history)
            contracts.check(changed)
            history = contracts.extended(plan, store, history, now_us=now.now_us())
            contracts.record(folder, history)
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
                shard=shard,
                planned=planned,
                version=newest if version is None else version,
            )
            runtime.contract_changes = tuple(one.text for one in changed)
            runtime._start(rebuild=rebuild, progress=progress)
            runtime._agree(history)
            undo.pop_all()
        _ACTIVE.append(runtime)
        return runtime

    @property
    def folder(self) -> Path:
        """Where it keeps what is its own."""
        return shard_folder(self.project.root, self.shard)

    @property
    def skipped_snapshots(self) -> tuple[str, ...]:
        """Snapshots that the state could not be recovered from when the project was opened, each with the reason."""
        return self._snapshots.skipped

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
            self._snapshots.finish()
            if snapshot:
                self.engine.flush()  # nobody may have waited for it
            if snapshot and not self.engine.stopped and not self._snapshots.has(self.engine.position):
                self._snapshots.save_last(self.plan, *self.engine.encoded())
        finally:
            self.shadows.close()
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
        letters: LetterChanges = NO_CHANGES,
    ) -> Processed:
        """One micro-batch through the engine; a snapshot is taken in the background when one is due."""
        processed = self.engine.process(
            inputs, by_time=by_time, decide=decide, offsets=offsets, overlap=overlap, letters=letters
        )
        if self.routes.shadowed:
            self._show_shadows(processed)
        if self._snapshots.is_due(self.engine.position):
            self.snapshot(processed.committed)
        return processed

    def _show_shadows(self, processed: Processed) -> None:
        for outcome in processed.outcomes:
            endpoint = self.routes.shadowed.get(outcome.admitted.source.name)
            if endpoint is not None and outcome.decisions is not None:
                route = self.routes[endpoint]
                self.shadows.offer(route, outcome.positions, outcome.decisions, processed.committed)

    def ingest(
        self, source: str, events: bytes | Sequence[Mapping[str, Any]], *, with_features: bool = False
    ) -> list[Answer]:
        """Send events (dicts or NDJSON bytes) and return one answer each, when they are durable."""
        processed = self.process([(source, self.decode(source, events))], overlap=False)
        return answers_of(processed.outcomes[0], self.plan, self.engine.rows, with_features=with_features)

    def decode(self, source: str, events: bytes | Sequence[Mapping[str, Any]]) -> Decoded:
        """Decode and check events of a source that are sent to the project: NDJSON bytes or dicts."""
        decoded = self.engine.decode(self.source_name(source), events)
        if self.plan.sources[source].is_batch:
            decoded = structs.replace(decoded, columns=self.row_ids(source).given_to(decoded.columns))
        return decoded

    def row_ids(self, source: str) -> RowIds:
        """Gives rows of a batch source the ids by which the log knows them."""
        node = self.plan.sources[source]
        seed = id_seed(self.store.hash_seed, source)
        return RowIds(
            str(node.id_field),
            self.engine.rows.versions_of(node),
            lambda ids: self._ids.lookup(hash_text(encode_keys([ids]), seed)),
        )

    def position_of(self, source: str, event_id: str) -> int | None:
        """Where the event of `source` with this id stands in the log, in the form of an answer; None where it is not, or not yet durable."""
        node = self.plan.sources[self.source_name(source)]
        name = unicodedata.normalize("NFC", event_id)
        return find_event(self.store, node, name, candidates=self._ids.candidates)

    def note_histories(self) -> None:
        """Let the engine know up to which time the loaded histories of streams reach."""
        from penstock.app.stream_history import covered_by_history

        self.engine.flush()
        self.engine.covered |= covered_by_history(self.store.offsets())

    def snapshot(self, committed: Future[None] | None = None) -> None:
        """Write the state as it stands to a snapshot, in the background, once `committed` is durable."""
        if not self._snapshots.is_busy():
            self._snapshots.take(self.plan, *self.engine.encoded(), committed)

    def prepare(
        self, project: Project, *, version: int = 0, stop: Callable[[], bool] = lambda: False
    ) -> Prepared:
        """Make ready for the definitions of `project`, which were applied as `version`, in any thread, while the engine goes on with its own.

        Folds what new views need from the log, and loads and verifies the models of new endpoints. `stop` ends it early.
        """
        plan = self._planned(project)
        contracts.check(contracts.judge(project, plan, self.store, self._contracts))
        fold = Fold(self.store, self.plan, plan)
        fold.approach(stop=stop)
        problems: dict[str, str] = {}
        routes = self.routes.following(plan, problems)
        return Prepared(project, plan, fold, routes, problems, version)

    def adopt(self, prepared: Prepared) -> None:
        """Go on with prepared definitions, between two micro-batches and in the thread that processes them."""
        self.engine.adopt(prepared.plan, prepared.fold, prepared.routes.readers())
        for name in [*self.plan.endpoints, *prepared.plan.endpoints]:
            self.problems.pop(name, None)
        self.problems |= prepared.problems
        self.project, self.plan, self.routes = prepared.project, prepared.plan, prepared.routes
        self.version = max(self.version, prepared.version)
        self.store.describe_decisions(rows_of(self.plan))
        self._agree(contracts.extended(self.plan, self.store, self._contracts, now_us=self.clock.now_us()))
        try:
            contracts.record(self.folder, self._contracts)
        except OSError as error:  # the next start writes it
            self.problems["contracts"] = f"the schemas' versions could not be written ({error})"
        self.snapshot()  # those before are of another plan

    def load_routes(self) -> dict[str, tuple[ModelVersion, ...]]:
        """Take over versions and weights as the registry and the audit log have them now; see `Routes.load`."""
        return self.routes.load(self.problems)

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
        state = self._snapshots.recover(self.store, self.plan, rebuild=rebuild, progress=progress)
        self.load_routes()
        self.store.describe_decisions(rows_of(self.plan))
        self.engine = LocalEngine(
            self.plan,
            store=self.store,
            ids=self._ids,
            clock=self.clock,
            features=state,
            routes=self.routes.readers(),
            live=self.settings.engine.future_check,
            tokens=card_tokens_of(self.project.root),
        )
        self.online = OnlineReader(self.engine, self.clock, tokens=self.engine.tokens)
        self.note_histories()

    def _agree(self, history: contracts.ContractHistory) -> None:
        """Let the engine know under which schemas the log was written."""
        self._contracts = history
        self.engine.rows.versions = contracts.versions(history)


_ACTIVE: list[Runtime] = []


def active() -> Runtime | None:
    """The runtime opened last in this process and not closed yet."""
    return _ACTIVE[-1] if _ACTIVE else None
