"""Safe change: what new definitions would do to a project, refused where they break what is live, and put into force."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import log2
from pathlib import Path
from typing import Any

from penstock.app import contracts
from penstock.app.applied import Applied, AppliedHistory
from penstock.app.endpoint_changes import EndpointChange, endpoint_changes
from penstock.app.runtime import open_reader, plan_of, registry_of, state_folder
from penstock.app.storing import has_run
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import ProjectError
from penstock.definitions.project import Project
from penstock.engine.features import FeatureState
from penstock.engine.recovery import fold_plan
from penstock.engine.replay import replay
from penstock.kernel.program import RECORD, STRIDE
from penstock.plan.describe import Description, describe
from penstock.plan.diff import Change, differences
from penstock.plan.nodes import Plan, ViewNode
from penstock.plan.watching import describe_watching
from penstock.stores.reader import ProjectReader

SAMPLE_ROWS = 200_000
_LIVE = ("Production", "Staging")


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A view whose state is to be folded from the log, and what that is expected to take.

    Attributes
    ----------
    rows
        Rows of the log that enter it.
    seconds, state_bytes
        Expected from folding a sample of the newest rows; None where the log is empty.
    """

    view: str
    rows: int
    seconds: float | None = None
    state_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Touched:
    """A model version in use whose features the change alters or takes away."""

    model: str
    version: str
    stage: str
    service: str
    why: str


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """What applying a project's definitions would do.

    Attributes
    ----------
    applied
        The version in force; None where nothing was ever applied.
    changes
        Objects added, changed, removed.
    touched
        Model versions in use that could not serve any more; while there is one, nothing is applied.
    refused
        Changes of schemas that earlier events do not allow; while there is one, nothing is applied.
    endpoints
        What becomes of endpoints in force; while one may not change so, nothing is applied.
    recomputed
        Views whose state is made from the log.
    description
        The plan, and what watches its endpoints, as plain values: what is kept as applied.
    """

    applied: Applied | None
    plan: Plan
    changes: tuple[Change, ...]
    touched: tuple[Touched, ...]
    refused: tuple[str, ...]
    recomputed: tuple[Recomputed, ...]
    description: Description
    endpoints: tuple[EndpointChange, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the definitions are those in force."""
        return self.applied is not None and not self.changes

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Why nothing may be applied, for the sake of earlier events or of endpoints that decide."""
        return (*self.refused, *(one.refused for one in self.endpoints if one.refused))

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "applied_version": None if self.applied is None else self.applied.version,
            "fingerprint": self.plan.fingerprint,
            "changes": [asdict(change) for change in self.changes],
            "blocked_by": [asdict(touched) for touched in self.touched],
            "refused_schemas": list(self.refused),
            "endpoints": [one.to_dict() for one in self.endpoints],
            "recomputed": [asdict(one) for one in self.recomputed],
        }


def plan_change(project: Project, *, estimate: bool = True) -> ChangePlan:
    """Compare the definitions of `project` with those in force; `estimate` also predicts time and size."""
    plan = plan_of(project)
    applied = AppliedHistory(state_folder(project.root)).newest()
    before = None if applied is None else applied.description
    after = describe(plan) | watching_of(project)
    touched = () if before is None else tuple(_touched(project.root, before, after))
    refused = tuple(_refused(project, plan))
    recomputed = () if refused else _recomputed(project.root, plan, before, estimate=estimate)
    endpoints = () if before is None else _endpoints(project, before, after)
    changes = differences(before, after)
    return ChangePlan(applied, plan, changes, touched, refused, recomputed, after, endpoints)


def watching_of(project: Project) -> Description:
    """The monitors, guards and alerts of a project."""
    return describe_watching(project.monitors.values(), project.endpoints.values(), project.alerts.values())


def _endpoints(project: Project, before: Description, after: Description) -> tuple[EndpointChange, ...]:
    labels = {name: model.label.name for name, model in project.models.items() if model.label is not None}
    with ExitStack() as stack:
        store = stack.enter_context(open_reader(project.root)) if has_run(project.root) else None
        return endpoint_changes(before, after, labels=labels, registry=registry_of(project.root), store=store)


def _refused(project: Project, plan: Plan) -> Iterable[str]:
    if not has_run(project.root):
        return
    history = contracts.read_history(state_folder(project.root))
    with open_reader(project.root) as store:
        for judged in contracts.judge(project, plan, store, history):
            yield from judged.refused


def apply(change: ChangePlan, root: Path, *, actor: str, reason: str, clock: Clock | None = None) -> Applied:
    """Put the definitions into force; a running engine takes them over without stopping.

    Raises
    ------
    ProjectError
        A model version in use could not serve any more, an endpoint that decides would not, or earlier events do not fit a
        schema.
    StoreError
        Somebody else applied another version since the change was planned.
    """
    if change.forbidden:
        raise ProjectError("\n".join(change.forbidden))
    if change.touched:
        raise ProjectError(refusal(change))
    now_us = (clock or SystemClock()).now_us()
    return AppliedHistory(state_folder(root)).append(
        change.applied, change.description, change.changes, applied_us=now_us, actor=actor, reason=reason
    )


def ensure_applied(project: Project, *, actor: str) -> Applied:
    """The version in force, if it is that of the definitions; the first one is applied by itself.

    Raises
    ------
    ProjectError
        The definitions differ from those in force.
    """
    change = plan_change(project, estimate=False)
    if change.applied is None:
        return apply(change, project.root, actor=actor, reason="first run")
    if change.is_empty:
        return change.applied
    names = ", ".join(f"{c.kind} {c.name}" for c in change.changes[:3])
    more = f" and {len(change.changes) - 3} more" if len(change.changes) > 3 else ""
    raise ProjectError(
        f"project {project.name!r}: its definitions differ from version {change.applied.version}, which is in force ({names}"
        f"{more}). Look at `penstock plan`, then `penstock apply`."
    )


def refusal(change: ChangePlan) -> str:
    """Why a change is not applied, and what to do instead."""
    first = change.touched[0]
    others = f" (and {len(change.touched) - 1} more)" if len(change.touched) > 1 else ""
    return (
        f"apply: model version {first.version!r} is in {first.stage} and {first.why} {first.service!r}{others}. Keep what it "
        "uses and define the new features beside it under another name; train and promote a model on them, archive this "
        "version (penstock registry archive), then remove the old ones."
    )


def _touched(root: Path, before: Description, after: Description) -> Iterable[Touched]:
    """Versions in use that the definitions in force can serve, and the new ones cannot."""
    kept = {service["name"]: service["fingerprint"] for service in after["services"]}
    lost = {
        service["fingerprint"]: service["name"]
        for service in before["services"]
        if service["fingerprint"] not in kept.values()
    }
    registry = registry_of(root)
    for version in (v for name in registry.names() for v in registry.versions(name)):
        if version.stage not in _LIVE:
            continue
        service = lost.get(version.manifest().service_fingerprint)
        if service is not None:
            why = "needs the features as they are in" if service in kept else "loses its feature service"
            yield Touched(version.name, version.label, version.stage, service, why)


def _recomputed(
    root: Path, plan: Plan, before: Description | None, *, estimate: bool
) -> tuple[Recomputed, ...]:
    known = set() if before is None else {view["fingerprint"] for view in before["views"]}
    new = {view["name"] for view in describe(plan)["views"] if view["fingerprint"] not in known}
    views = [view for view in plan.views if view.name in new]
    if not has_run(root):
        return tuple(Recomputed(view.name, 0) for view in views)
    with open_reader(root) as store:
        counts = store.row_counts()
        return tuple(
            _predicted(store, plan, view, counts.get(view.source, 0), estimate=estimate) for view in views
        )


def _predicted(store: ProjectReader, plan: Plan, view: ViewNode, rows: int, *, estimate: bool) -> Recomputed:
    """Fold the newest rows and extrapolate: time by rows, size by keys (Heaps' law) and by rows in the window."""
    if not rows or not estimate:
        return Recomputed(view.name, rows)
    state = FeatureState(fold_plan(plan, (view,)))
    length = store.next_position
    start = max(0, length - SAMPLE_ROWS)
    middle = (start + length) // 2
    started = time.process_time()
    halves = []
    for begin, end in ((start, middle), (middle, length)):
        for _ in replay(store, state, start=begin, stop=end):
            pass
        halves.append(state.views[0].stats)
    seconds = time.process_time() - started
    share = length / max(length - start, 1)
    held = halves[-1]
    grown = max(held.keys, 1) / max(halves[0].keys, 1)
    keys = held.keys * grown ** log2(share)
    # Rows leave a window that is full: what was gained in the second half goes on at the same pace.
    gained = max(held.rows - halves[0].rows, 0)
    kept = held.rows + gained * 2 * (share - 1)
    program = view.program.encode()
    sampled = held.keys * int(program[RECORD]) + held.rows * int(program[STRIDE])
    wanted = keys * int(program[RECORD]) + min(kept, rows) * int(program[STRIDE])
    return Recomputed(view.name, rows, seconds * share, int(held.nbytes * wanted / sampled) if sampled else 0)
