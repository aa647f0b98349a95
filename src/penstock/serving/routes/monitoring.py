"""Figures of endpoints. They take long on many decisions: a job makes them, and they are served with their age."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from penstock.app.drift_live import live_drift
from penstock.app.measuring import monitor_of
from penstock.app.routing import endpoint_named
from penstock.core.errors import NotFoundError
from penstock.serving.access import GuardedRoute
from penstock.serving.drift_shapes import LiveDriftShape, live_drift_shape
from penstock.serving.job_kinds import (
    DistributionsParams,
    DriftParams,
    ExperimentParams,
    MetricsParams,
    Name,
)
from penstock.serving.kept import KEPT_ANSWERS, MAX_AGE_S, Kept, MaxAge, kept
from penstock.serving.monitoring_shapes import (
    CurveShape,
    DistributionsShape,
    DriftShape,
    ExperimentShape,
    MetricsShape,
    curves_of,
    metrics_of,
)
from penstock.serving.platform import Platform, platform_of

router = APIRouter(tags=["monitoring"], route_class=GuardedRoute, responses=KEPT_ANSWERS)


@router.get(
    "/v1/endpoints/{endpoint}/metrics",
    summary="Get how good decisions were",
    response_model=Kept[MetricsShape],
)
def get_metrics(
    request: Request,
    endpoint: str,
    by: Annotated[
        str | None,
        Query(
            max_length=200,
            description="`version`, `arm`, `day`, or `segment:NAME` of the endpoint's monitor.",
        ),
    ] = None,
    max_age_s: MaxAge = MAX_AGE_S,
) -> Kept[MetricsShape] | Response:
    """Quality of an endpoint from its stored decisions and the labels that are known, with what can be expected where none are.

    All of `by` come from the same pass over the decisions.
    """
    platform = platform_of(request)
    name = _endpoint(platform, endpoint)
    _check_by(platform, name, by)
    params = MetricsParams(endpoint=name)
    return kept(platform, "metrics", params, max_age_s, of=lambda found: metrics_of(found, by))


@router.get(
    "/v1/endpoints/{endpoint}/curves",
    summary="Get curves and distributions of scores",
    response_model=Kept[list[CurveShape]],
)
def get_curves(
    request: Request, endpoint: str, max_age_s: MaxAge = MAX_AGE_S
) -> Kept[list[CurveShape]] | Response:
    """ROC, precision-recall, calibration and the distribution of scores: of all decisions, of each version, of each arm."""
    platform = platform_of(request)
    params = MetricsParams(endpoint=_endpoint(platform, endpoint))
    return kept(platform, "metrics", params, max_age_s, of=curves_of)


@router.get("/v1/endpoints/{endpoint}/drift", summary="Get a drift report", response_model=Kept[DriftShape])
def get_drift(
    request: Request,
    endpoint: str,
    version: Annotated[
        Name | None,
        Query(description="Compare with this version's training; default: the one in Production."),
    ] = None,
    max_age_s: MaxAge = MAX_AGE_S,
) -> Kept[DriftShape] | Response:
    """The newest stretch of features, scores and labels against a version's training data.

    Thresholds follow from the number of rows, so that a report without drift seldom alarms.
    """
    platform = platform_of(request)
    params = DriftParams(endpoint=_endpoint(platform, endpoint), version=version)
    return kept(platform, "drift", params, max_age_s, of=lambda found: DriftShape(**found))


@router.get(
    "/v1/endpoints/{endpoint}/drift/live",
    summary="Get drift as it happens",
    response_model=LiveDriftShape,
)
def get_live_drift(request: Request, endpoint: str) -> LiveDriftShape:
    """What the watch beside the run has found so far, against the version in Production.

    Looks at all columns, and alarms of detectors (ADWIN, Page-Hinkley). However often it is asked, without drift at most the share
    `false_alarms` of all drift windows alarms.
    """
    platform = platform_of(request)
    return live_drift_shape(live_drift(platform.runtime.project, _endpoint(platform, endpoint)))


@router.get(
    "/v1/endpoints/{endpoint}/distributions",
    summary="Get distributions of features",
    response_model=Kept[DistributionsShape],
)
def get_distributions(
    request: Request, endpoint: str, max_age_s: MaxAge = MAX_AGE_S
) -> Kept[DistributionsShape] | Response:
    """Histogram, quantiles and share of nulls of each feature over the newest 100,000 decisions, as the models saw them."""
    platform = platform_of(request)
    params = DistributionsParams(endpoint=_endpoint(platform, endpoint))
    return kept(platform, "distributions", params, max_age_s, of=lambda found: DistributionsShape(**found))


@router.get(
    "/v1/endpoints/{endpoint}/experiment",
    summary="Compare the arms of an endpoint",
    response_model=Kept[ExperimentShape],
)
def get_experiment(
    request: Request,
    endpoint: str,
    start: Annotated[
        int | None, Query(ge=0, le=2**53, description="A log position; default: since weights were set.")
    ] = None,
    error: Annotated[
        float, Query(ge=1e-6, le=0.5, description="How often equal arms may be told apart, at most.")
    ] = 0.05,
    max_age_s: MaxAge = MAX_AGE_S,
) -> Kept[ExperimentShape] | Response:
    """Each metric over keys, not events, with an interval that holds however often one looks.

    Keys that changed arms are left out; if the division of the keys does not fit the weights, it says so.
    """
    platform = platform_of(request)
    params = ExperimentParams(endpoint=_endpoint(platform, endpoint), start=start, error=error)
    return kept(platform, "experiment", params, max_age_s, of=lambda found: ExperimentShape(**found))


def _endpoint(platform: Platform, name: str) -> str:
    return endpoint_named(platform.runtime.plan, name).name


def _check_by(platform: Platform, endpoint: str, by: str | None) -> None:
    segments = monitor_of(platform.runtime.project, endpoint).segments
    allowed = [None, "version", "arm", "day", *(f"segment:{name}" for name in segments)]
    if by not in allowed:
        raise NotFoundError(
            f"metrics: by {by!r} found; allowed are {', '.join(map(str, allowed[1:]))}. Choose one, or add the segment to the "
            "endpoint's Monitor."
        )
