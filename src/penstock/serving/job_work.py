"""What jobs do, in their own process: what the commands of the same names do, with a result of JSON values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from penstock.app.runtime import audit_log_of, open_reader, plan_of, registry_of
from penstock.core.clock import SystemClock
from penstock.core.errors import ModelError, StoreError
from penstock.core.time import from_us, to_us
from penstock.definitions.project import Project, load_project
from penstock.serving.job_kinds import (
    KINDS,
    BacktestParams,
    DatasetParams,
    DistributionsParams,
    DriftParams,
    ExperimentParams,
    GateParams,
    MetricsParams,
    PromoteParams,
    RetrainParams,
)
from penstock.serving.job_process import Speaker, dated

if TYPE_CHECKING:
    from penstock.models.gates import GateReport
    from penstock.models.registry import ModelRegistry
    from penstock.plan.nodes import Plan
    from penstock.stores.audit_log import AuditLog

ROWS = "rows"
"""Not a job: the rows of a data set, as bytes."""


@dataclass
class Work:
    """What is to be done: the project's folder, what was asked, and whom to tell."""

    root: Path
    asked: dict[str, Any]
    speaker: Speaker
    out: IO[bytes]

    @cached_property
    def project(self) -> Project:
        """The definitions."""
        return load_project(self.root)

    @cached_property
    def plan(self) -> Plan:
        """What runs."""
        return plan_of(self.project)

    @cached_property
    def registry(self) -> ModelRegistry:
        """The versions of models."""
        return registry_of(self.root)

    @cached_property
    def audit(self) -> AuditLog:
        """The audit log."""
        return audit_log_of(self.root)

    @property
    def actor(self) -> str:
        """Who asked for it."""
        return str(self.asked["actor"])

    @property
    def reason(self) -> str:
        """Why."""
        return str(self.asked["reason"])


def run(work: Work) -> Any:
    """Do it; what came of it as JSON values, None where that was written as bytes."""
    kind = str(work.asked["kind"])
    if kind == ROWS:
        _rows(work)
        return None
    return _DOING[kind](work, KINDS[kind].params.model_validate(work.asked["params"]))


def _metrics(work: Work, params: MetricsParams) -> Any:
    from penstock.app.measuring import monitor_of
    from penstock.app.metrics_report import metrics_report
    from penstock.app.routing import endpoint_named
    from penstock.app.version_thresholds import VersionThresholds

    node = endpoint_named(work.plan, params.endpoint)
    with open_reader(work.root) as store:
        found = metrics_report(
            store,
            work.plan,
            monitor_of(work.project, node.name),
            thresholds=VersionThresholds(node, work.registry),
            as_of_us=_us(params.as_of),
            progress=work.speaker.progress,
        )
    return dated(found)


def _drift(work: Work, params: DriftParams) -> Any:
    from penstock.app.drift_days import daily_drift
    from penstock.app.drifting import drift_report, reference_of
    from penstock.app.measuring import monitor_of

    monitor = monitor_of(work.project, params.endpoint)
    reference = reference_of(work.registry, monitor.endpoint.model.name, params.version)
    with open_reader(work.root) as store:
        report = drift_report(store, work.plan, monitor, reference=reference, progress=work.speaker.progress)
        days = daily_drift(store, work.plan, monitor, reference=reference, progress=work.speaker.progress)
    return dated({**report.to_dict(), "days": days})


def _distributions(work: Work, params: DistributionsParams) -> Any:
    from penstock.app.distributions import distributions
    from penstock.app.measuring import monitor_of

    with open_reader(work.root) as store:
        monitor = monitor_of(work.project, params.endpoint)
        return dated(distributions(store, work.plan, monitor, progress=work.speaker.progress))


def _experiment(work: Work, params: ExperimentParams) -> Any:
    from penstock.app.experimenting import experiment
    from penstock.app.routing import arm_shares, endpoint_named, weights_since

    node = endpoint_named(work.plan, params.endpoint)
    shares = arm_shares(node, work.registry, work.audit)
    weights = {one["arm"]: one["weight"] for one in shares if one["share"]}
    start = weights_since(node, work.audit) if params.start is None else params.start
    with open_reader(work.root) as store:
        found = experiment(store, work.plan, node, weights=weights, start=start, error=params.error)
    return {"start": start, **found.to_dict()}


def _backtest(work: Work, params: BacktestParams) -> Any:
    from penstock.app.backtesting import Asked, backtest

    asked = Asked(
        start_us=_us(params.start),
        end_us=_us(params.end),
        models=tuple(params.models),
        thresholds=params.thresholds,
        policy=params.policy,
        lists=params.lists,
    )
    found = backtest(work.root, params.endpoint, asked, progress=work.speaker.progress)
    days = [
        [
            {
                "day": f"{from_us(day * 86_400_000_000):%Y-%m-%d}",
                "events": events,
                "alerts": alerts,
                "cost": cost,
            }
            for day, (events, alerts, cost) in sorted(side.items())
        ]
        for side in found.days
    ]
    return {**found.to_dict(), "days": days}


def _dataset(work: Work, params: DatasetParams) -> Any:
    import msgspec

    from penstock.app.dataset_rows import Question
    from penstock.app.datasets import record_dataset

    with open_reader(work.root) as store:
        delay = params.label_delay_s
        question = Question(
            as_of=params.as_of,
            position=store.next_position,
            label=params.label,
            start_us=_us(params.start),
            end_us=_us(params.end),
            label_delay_us=None if delay is None else to_us(timedelta(seconds=delay)),
        )
        found = record_dataset(
            work.root,
            params.service,
            question,
            clock=SystemClock(),
            project=work.project,
            log=store,
            progress=work.speaker.progress,
        )
    return dated(msgspec.to_builtins(found))


def _retrain(work: Work, params: RetrainParams) -> Any:
    from penstock.app.retraining import Retrainer
    from penstock.models.triggers import Trigger

    with open_reader(work.root) as store:
        retrainer = Retrainer(
            work.project,
            store,
            registry=work.registry,
            audit=work.audit,
            clock=SystemClock(),
            tell=work.speaker.tell,
        )
        attempt = retrainer.attempt(params.model, Trigger("hand", f"by {work.actor}: {work.reason}"))
    if attempt is None:
        raise StoreError("retrain: another process trains in this project; wait until it has ended.")
    if attempt.outcome == "failed":
        raise ModelError(f"retrain: model {params.model!r}: {attempt.detail.get('error', 'it failed')}")
    return dated(asdict(attempt))


def _gate(work: Work, params: GateParams) -> Any:
    return gate_values(_judged(work, params))


def _promote(work: Work, params: PromoteParams) -> Any:
    chosen = work.registry.get(params.model, params.version)  # an alias may move while it is judged
    params = params.model_copy(update={"version": str(chosen.version)})
    report = _judged(work, params)
    if report.verdict != "pass":
        found = "; ".join(f"{rule.name}: {rule.text}" for rule in report.rules if rule.verdict != "pass")
        raise ModelError(
            f"{chosen.label} is not promoted: the gate's verdict is {report.verdict} ({found}). Wait for labels or train again; "
            f"the report is kept with the version as {report.digest[:16]}."
        )
    moved = work.registry.promote(
        params.model,
        params.version,
        stage="Production",
        actor=work.actor,
        reason=work.reason,
        gate=report.digest,
    )
    return {"version": moved.label, "stage": moved.stage, "report": gate_values(report)}


def _judged(work: Work, params: GateParams) -> GateReport:
    from penstock.app.gating import judge_version

    return judge_version(
        work.project,
        params.model,
        params.version,
        registry=work.registry,
        clock=SystemClock(),
        tell=work.speaker.tell,
        progress=work.speaker.progress,
    )


def gate_values(report: GateReport) -> dict[str, Any]:
    """A gate's report as JSON values, with the digest under which it is kept."""
    found: dict[str, Any] = dated({"digest": report.digest, **asdict(report)})
    return found


def _rows(work: Work) -> None:
    """Write the rows of a data set to stdout: the last of them only if all are those that were recorded."""
    from penstock.app.datasets import rebuild_dataset

    params = work.asked["params"]
    made = rebuild_dataset(work.root, str(params["dataset"]), project=work.project)
    if params["format"] == "parquet":
        from pyarrow.parquet import ParquetWriter

        with ParquetWriter(_Counted(work.out), made.schema) as writer:
            for batch in made.batches():
                writer.write_batch(batch)
    else:
        for line in _lines(made.batches()):
            work.out.write(line)
    work.out.flush()


def _lines(batches: Iterator[Any]) -> Iterator[bytes]:
    import msgspec

    encode = msgspec.json.Encoder().encode_lines
    for batch in batches:
        yield encode(batch.to_pylist())


class _Counted:
    """A pipe that knows how much was written to it, as Parquet's writer asks for."""

    closed = False

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._written = out, 0

    def write(self, data: Any) -> int:
        written = self._out.write(data)
        self._written += written
        return written

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        """The pipe stays open."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def _us(time: datetime | None) -> int | None:
    return None if time is None else to_us(time)


_DOING: dict[str, Callable[[Work, Any], Any]] = {
    "metrics": _metrics,
    "drift": _drift,
    "distributions": _distributions,
    "experiment": _experiment,
    "backtest": _backtest,
    "dataset": _dataset,
    "retrain": _retrain,
    "gate": _gate,
    "promote": _promote,
}
