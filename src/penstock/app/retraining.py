"""Retraining a model: looking whether it is due, and one attempt from the log to the stage that it reaches.

    due?  →  train  →  gate  →  Production | Staging | shadow → gate → Production

A running engine takes over what is promoted (`penstock.app.route_watch`). Whatever fails is written into the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from penstock.app.arrivals import Arrivals
from penstock.app.gating import judge_version
from penstock.app.guard_log import is_refused
from penstock.app.new_labels import LearnedPositions, NewLabels, used_up_to
from penstock.app.origins import origin_in_log
from penstock.app.recording import recorded
from penstock.app.retraining_data import Recent, newest_time, recent_data
from penstock.app.retraining_journal import ACTOR, Attempt, Journal, Outcome, alone
from penstock.app.retraining_signs import Signs
from penstock.app.runtime import plan_of, state_folder
from penstock.app.training import model_named, train_model
from penstock.core.errors import PenstockError
from penstock.core.time import format_duration, from_us, to_us
from penstock.models.triggers import Seen, State, Trigger, due

if TYPE_CHECKING:
    from penstock.core.clock import Clock
    from penstock.definitions.models import Model
    from penstock.definitions.project import Project
    from penstock.models.gates import GateReport
    from penstock.models.registry import ModelRegistry, ModelVersion
    from penstock.plan.origins import Origin
    from penstock.stores.audit_log import AuditLog
    from penstock.stores.reader import ProjectReader

Tell = Callable[[str], None]
REPORTS = "reports"


class Retrainer:
    """Trains the models of a project again.

    Parameters
    ----------
    project
        The definitions.
    store
        A reader of its log; whoever writes it goes on beside.
    registry, audit, clock
        Where versions and the journal are kept, and the time.
    tell
        Called with a line when each stage starts.
    """

    def __init__(
        self,
        project: Project,
        store: ProjectReader,
        *,
        registry: ModelRegistry,
        audit: AuditLog,
        clock: Clock,
        tell: Tell | None = None,
    ) -> None:
        self._project, self._store, self._plan = project, store, plan_of(project)
        self._registry, self._audit, self._clock = registry, audit, clock
        self._tell = tell or _say_nothing
        self._counts: dict[str, NewLabels] = {}
        self._signs: dict[str, Signs] = {}
        self._learned = LearnedPositions(registry, store.store_id)

    def look(self, name: str) -> Attempt | None:
        """Do what is due for a model: judge its version in the shadow, or train; what came of it, None where nothing was due."""
        model, journal = model_named(self._project, name), Journal(self._audit, name)
        shadowed = journal.shadowing()
        if shadowed is not None:
            return self._settle(model, journal, shadowed)
        trigger = self.due(name)
        return None if trigger is None else self.attempt(name, trigger)

    def due(self, name: str) -> Trigger | None:
        """Why a model is to be trained now, if it is; the first call notes from where on labels are new."""
        model = model_named(self._project, name)
        if model.retraining is None:
            return None
        signs = self._signs.setdefault(
            name, Signs(self._project, self._plan, self._store, self._registry, model)
        )
        state = self.state(name)
        return due(
            model.retraining,
            state,
            self.seen(name),
            binary=model.task == "binary",
            drifted=lambda: signs.drifted(state.position),
            figures=signs.figures,
        )

    def state(self, name: str) -> State:
        """What earlier attempts, and versions that somebody trained by hand, left behind.

        The labels that were in the log when a version was trained on it are used, once it was put to use; of a version of which that is
        not known (trained on files, elsewhere, or long ago) those that were there when its model was watched first.
        """
        journal, learned = Journal(self._audit, name), self._learned.position(name)
        state = journal.state()
        if state is None:
            unknown = self._store.next_position if self._registry.versions(name) else 0
            journal.watch(unknown if learned is None else learned)
            state = journal.state()
            assert state is not None, "a watched model has a state"
        return used_up_to(state, learned)

    def seen(self, name: str) -> Seen:
        """The labels that joined their events since the newest attempt, or the newest version that was trained by hand."""
        position = self.state(name).position
        counted = self._counts.get(name)
        if counted is None or counted.since != position:
            counted = self._counts[name] = NewLabels(position)
        counted.read(self._store, Arrivals(self._store, self._plan, model_named(self._project, name)))
        return Seen(self._clock.now_us(), counted.labels, counted.positives)

    def attempt(self, name: str, trigger: Trigger) -> Attempt | None:
        """Train, judge and promote as configured; None where another process trains.

        What goes wrong is an outcome, not an error; an attempt that is killed has no outcome.
        """
        with alone(state_folder(self._project.root)) as mine:
            if not mine:
                return None
            model, journal = model_named(self._project, name), Journal(self._audit, name)
            attempt = journal.begin(trigger.kind, trigger.text, self._store.next_position)
            detail: dict[str, Any] = {}
            try:
                outcome, why = self._run(model, attempt, detail)
            except (
                PenstockError,
                OSError,
                MemoryError,
                ValueError,
            ) as error:  # an estimator may raise ValueError
                outcome, why = "failed", f"{type(error).__name__}: {error}"
                detail["error"] = why
            return journal.end(attempt, outcome, detail, why=why)

    def _run(self, model: Model, attempt: Attempt, detail: dict[str, Any]) -> tuple[Outcome, str]:
        seconds: dict[str, float] = {}
        detail["seconds"] = seconds
        with _timed(seconds, "gather"):
            self._tell(f"{model.name}: {attempt.why}; gathering what is to be learned")
            recent = recent_data(self._store, self._project, self._plan, model, stop=attempt.position)
            detail["rows"] = len(recent.data.labels)
        with _timed(seconds, "record"):
            dataset = self._recorded(model, recent)
        with _timed(seconds, "train"):
            run = train_model(
                self._project,
                model,
                recent.data,
                registry=self._registry,
                clock=self._clock,
                reports=self._project.root / REPORTS,
                actor=ACTOR,
                reason=f"retraining: {attempt.why}",
                tell=self._tell,
                dataset=dataset,
                origin=self._origin(model, recent, dataset),
            )
            detail["version"] = run.version.label
        with _timed(seconds, "gate"):
            report = self._judged(model, run.version, recent)
            detail |= {"verdict": report.verdict, "gate": report.digest}
        return self._place(model, run.version, report, attempt, detail)

    def _recorded(self, model: Model, recent: Recent) -> str | None:
        return recorded(
            self._project,
            self._plan,
            model,
            recent.logged,
            log=self._store,
            as_of="served",
            stop=recent.stop,
            start_us=recent.start_us,
            end_us=recent.end_us,
            tell=self._tell,
        )

    def _origin(self, model: Model, recent: Recent, dataset: str | None) -> Origin:
        return origin_in_log(
            self._project, model, log=self._store.store_id, position=recent.stop, dataset=dataset
        )

    def _judged(
        self, model: Model, version: ModelVersion, recent: Recent, *, since_us: int | None = None
    ) -> GateReport:
        return judge_version(
            self._project,
            model.name,
            version.version,
            registry=self._registry,
            clock=self._clock,
            gathered=recent.data,
            since_us=since_us,
            tell=self._tell,
        )

    def _place(
        self,
        model: Model,
        version: ModelVersion,
        report: GateReport,
        attempt: Attempt,
        detail: dict[str, Any],
    ) -> tuple[Outcome, str]:
        """Where a judged version goes."""
        rules = model.retraining
        to, shadow = ("Production", None) if rules is None else (rules.to, rules.shadow_for)
        if shadow is not None and report.champion is not None and report.verdict != "fail":
            since = newest_time(self._store, self._plan, model, stop=self._store.next_position)
            detail["since_us"] = since
            self._move(version, "Staging", f"in the shadow for {shadow}; retraining: {attempt.why}", report)
            return "shadowing", f"the gate's verdict is {report.verdict}; judged again after {shadow}"
        if report.verdict != "pass":
            return "kept", f"the gate's verdict is {report.verdict}: {_reason(report)}"
        if to == "Staging":
            self._move(version, "Staging", f"retraining: {attempt.why}", report)
            return "staged", "the gate passed"
        return self._promote(version, attempt, report)

    def _settle(self, model: Model, journal: Journal, attempt: Attempt) -> Attempt | None:
        """Judge a version again once it was long enough in the shadow, and the labels of that time are there."""
        shadow = shadow_us(model)
        newest = newest_time(self._store, self._plan, model, stop=self._store.next_position)
        since = int(attempt.detail["since_us"])
        if newest is None or newest < since + shadow + to_us(model.split.delay):
            return None
        with alone(state_folder(self._project.root)) as mine:
            if not mine:
                return None
            detail: dict[str, Any] = {}
            try:
                outcome, why = self._settled(model, attempt, since, detail)
            except (PenstockError, OSError, MemoryError, ValueError) as error:
                outcome, why = "failed", f"{type(error).__name__}: {error}"
                detail["error"] = why
            return journal.end(attempt, outcome, detail, why=why)

    def _settled(
        self, model: Model, attempt: Attempt, since_us: int, detail: dict[str, Any]
    ) -> tuple[Outcome, str]:
        label = str(attempt.detail["version"])
        version = self._registry.get(model.name, label.rpartition(":")[2])
        if version.stage != "Staging":
            return "overtaken", f"{label} was moved to stage {version.stage} by somebody else"
        stop = self._store.next_position
        recent = recent_data(self._store, self._project, self._plan, model, stop=stop)
        report = self._judged(model, version, recent, since_us=since_us)
        detail |= {"verdict": report.verdict, "gate": report.digest}
        if report.verdict == "pass":
            return self._promote(version, attempt, report)
        why = f"the gate's verdict on what came since is {report.verdict}: {_reason(report)}"
        self._registry.archive(model.name, version.version, actor=ACTOR, reason=why)
        return "archived", why

    def _promote(self, version: ModelVersion, attempt: Attempt, report: GateReport) -> tuple[Outcome, str]:
        """To Production, unless the champion is another one by now, or the guard refused the version or its data."""
        live = next((v for v in self._registry.versions(version.name) if v.stage == "Production"), None)
        if (None if live is None else live.label) != report.champion:
            return (
                "overtaken",
                f"it was judged against {report.champion}, and {live and live.label} is live now",
            )
        refused = is_refused(version, self._registry, self._audit)
        if refused:
            return "kept", refused
        self._move(version, "Production", f"retraining: {attempt.why}", report)
        return "promoted", "the gate passed"

    def _move(self, version: ModelVersion, stage: Any, reason: str, report: GateReport) -> None:
        gate = report.digest if report.verdict == "pass" else ""
        self._registry.promote(
            version.name, version.version, stage=stage, actor=ACTOR, reason=reason, gate=gate
        )


def shadow_us(model: Model) -> int:
    """How long a model's versions are in the shadow, in microseconds; not at all where the definition no longer says so."""
    rules = model.retraining
    return 0 if rules is None or rules.shadow_for is None else to_us(rules.shadow_for)


def retrained_models(project: Project) -> list[str]:
    """The names of the models that are trained again without a hand."""
    return [name for name, model in project.models.items() if model.retraining is not None]


def described(attempt: Attempt) -> str:
    """An attempt in one line.

    >>> described(
    ...     Attempt(
    ...         1, "fraud", "labels", "500 new labels", 0, 7, 3_000_000, "promoted", {"version": "fraud:2"}
    ...     )
    ... )
    '1970-01-01 00:00 500 new labels: fraud:2 promoted after 3s'
    """
    took = "" if attempt.ended_us is None else f" after {format_duration(_seconds_us(attempt))}"
    version = f"{attempt.detail['version']} " if "version" in attempt.detail else ""
    outcome = attempt.outcome or "no outcome"
    return f"{from_us(attempt.started_us):%Y-%m-%d %H:%M} {attempt.why}: {version}{outcome}{took}"


def _seconds_us(attempt: Attempt) -> int:
    assert attempt.ended_us is not None
    return (attempt.ended_us - attempt.started_us) // 1_000_000 * 1_000_000


def _reason(report: GateReport) -> str:
    return "; ".join(f"{rule.name}: {rule.text}" for rule in report.rules if rule.verdict != "pass")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - begun, 3)


def _say_nothing(_line: str) -> None:
    """Progress that nobody watches."""
