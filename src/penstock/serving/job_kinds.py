"""What jobs there are, each with the model of its parameters. What does the work is `penstock.serving.job_work`.

Nothing here names a file: data sets go by id, models, services and endpoints by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from penstock.app.routing import endpoint_named
from penstock.app.training import model_named
from penstock.core.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime

Name = Annotated[str, Field(min_length=1, max_length=200)]


class Params(BaseModel):
    """The parameters of a kind."""

    model_config = ConfigDict(extra="forbid")


class MetricsParams(Params):
    """How good an endpoint's decisions were, as far as labels tell."""

    endpoint: Name
    as_of: datetime | None = Field(
        None, description="Only events up to this time, and labels known by then; naive times are UTC."
    )


class DriftParams(Params):
    """What an endpoint is asked lately, against what a version was trained on."""

    endpoint: Name
    version: Name | None = Field(None, description="A number; default: the version in Production.")


class DistributionsParams(Params):
    """How the features of an endpoint's newest decisions are distributed."""

    endpoint: Name


class ExperimentParams(Params):
    """The arms of an endpoint side by side."""

    endpoint: Name
    start: int | None = Field(None, ge=0, description="A log position; default: since weights were set.")
    error: float = Field(
        0.05, ge=1e-6, le=0.5, description="How often equal arms may be told apart, at most."
    )


class BacktestParams(Params):
    """A past period decided again by other models, thresholds or another policy."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"endpoint": "checkout", "models": ["fraud:2"], "thresholds": {"block": 0.8}}
        }
    )

    endpoint: Name
    start: datetime | None = Field(None, description="Events from this time on; naive times are UTC.")
    end: datetime | None = Field(None, description="Events before this time.")
    models: list[Annotated[str, Field(pattern=r"^[^:/\\]{1,200}:[0-9a-z]{1,20}$")]] = Field(
        [], max_length=20, description="`NAME:VERSION` each."
    )
    thresholds: dict[Name, float] = Field({}, max_length=50)
    policy: Name | None = Field(None, description="Another policy of the definitions.")
    lists: dict[Name, Name] = Field(
        {},
        max_length=20,
        description="By list to try the list in force whose members of the period's beginning it has.",
    )


class DatasetParams(Params):
    """A training set, recorded so that it can be made again bit for bit."""

    service: Name
    label: Name | None = Field(None, description="The label source; without: features alone.")
    as_of: Literal["served", "corrected"] = "served"
    start: datetime | None = Field(None, description="Events from this time on; naive times are UTC.")
    end: datetime | None = Field(None, description="Events before this time.")
    label_delay_s: float | None = Field(
        None, ge=0, description="Only labels that were known at most so long after their event."
    )


class RetrainParams(Params):
    """A model trained again; it goes as far as the model's retraining says."""

    model: Name


class GateParams(Params):
    """A version judged against the champion."""

    model: Name
    version: Name = Field(description="A number, or champion, challenger, previous.")


class PromoteParams(GateParams):
    """A version judged, and put into Production if it passes."""


@dataclass(frozen=True, slots=True)
class JobKind:
    """A kind of job.

    Attributes
    ----------
    params
        Its parameters.
    changes
        Whether it changes anything: it needs a reason then, and is in the audit log.
    check
        Raises where what the parameters name is not there.
    admin
        Whether it may put a version into use, so that it needs what promoting does.
    """

    params: type[Params]
    check: Callable[[Runtime, Any], None]
    changes: bool = False
    admin: bool = False


def _endpoint(runtime: Runtime, params: Any) -> None:
    endpoint_named(runtime.plan, params.endpoint)


def _backtest(runtime: Runtime, params: BacktestParams) -> None:
    _endpoint(runtime, params)
    for label in params.models:
        name, _, version = label.rpartition(":")
        runtime.registry.get(name, version)


def _version(runtime: Runtime, params: GateParams) -> None:
    model_named(runtime.project, params.model)
    runtime.registry.get(params.model, params.version)


def _model(runtime: Runtime, params: RetrainParams) -> None:
    if model_named(runtime.project, params.model).learning is not None:
        raise InputError(
            f"retrain: model {params.model!r} goes on learning, so there is nothing to train again."
        )


def _service(runtime: Runtime, params: DatasetParams) -> None:
    services = runtime.project.services
    if params.service not in services:
        raise NotFoundError(
            f"feature service {params.service!r} does not exist; there are {', '.join(services) or 'none'}."
        )


KINDS: dict[str, JobKind] = {
    "metrics": JobKind(MetricsParams, _endpoint),
    "drift": JobKind(DriftParams, _endpoint),
    "distributions": JobKind(DistributionsParams, _endpoint),
    "experiment": JobKind(ExperimentParams, _endpoint),
    "backtest": JobKind(BacktestParams, _backtest),
    "dataset": JobKind(DatasetParams, _service, changes=True),
    "retrain": JobKind(RetrainParams, _model, changes=True, admin=True),
    "gate": JobKind(GateParams, _version, changes=True),
    "promote": JobKind(PromoteParams, _version, changes=True, admin=True),
}
"""Every kind of job. `materialize` and `backfill` are not among them: the one needs the log's writer, which the engine is and which
takes new rows of tables in by itself; the other reads a file, and no caller names files here."""
