"""Moving versions of models: promote, roll back, archive, and loading what others moved. Live when the answer comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from penstock.models.versions import SKIPPED
from penstock.serving.access import GuardedRoute
from penstock.serving.acting import Because, actor_of
from penstock.serving.beginning import begin
from penstock.serving.job_shapes import JobShape, accepted
from penstock.serving.model_shapes import LoadedShape, MovedShape, Promotion, version_of
from penstock.serving.platform import Platform, platform_of
from penstock.serving.routes.models import read_report
from penstock.serving.shapes import ProblemShape

if TYPE_CHECKING:
    from penstock.models.registry import ModelVersion

router = APIRouter(
    tags=["models"],
    route_class=GuardedRoute,
    responses={404: {"model": ProblemShape}, 409: {"model": ProblemShape}},
)


@router.post(
    "/v1/models/{model}/versions/{version}/promote",
    summary="Promote a version",
    responses={
        202: {"model": JobShape, "description": "It is judged first; the job promotes it if it passes."}
    },
    response_model=MovedShape,
)
def promote(request: Request, model: str, version: str, asked: Promotion) -> MovedShape | Response:
    """Make a version live (Production) or a candidate (Staging).

    Production is behind the model's gate. With `gate`, the digest of a report that passed against the version that is live now,
    it is promoted at once; with `force` without a verdict, which the history keeps. With neither a job judges it (202), and
    promotes it if it passes. What was promoted decides from the next micro-batch on.
    """
    platform = platform_of(request)
    registry = platform.runtime.registry
    chosen = registry.get(model, version)
    needs_gate = asked.stage == "Production" and chosen.stage != "Production" and not asked.force
    if needs_gate and asked.gate is None:
        params = {"model": model, "version": str(chosen.version)}
        return accepted(begin(request, "promote", params, reason=asked.reason))
    gate = f"{SKIPPED}{asked.reason}" if asked.force else ""
    if asked.gate is not None and not asked.force:
        gate = read_report(registry, chosen, asked.gate).digest
    moved = registry.promote(
        model, chosen.version, stage=asked.stage, actor=actor_of(request), reason=asked.reason, gate=gate
    )
    return _moved(platform, moved)


@router.post("/v1/models/{model}/rollback", summary="Roll a model back")
def rollback(request: Request, model: str, asked: Because) -> MovedShape:
    """Put the version that was live before back; a second rollback returns to the one that is live now."""
    platform = platform_of(request)
    moved = platform.runtime.registry.rollback(model, actor=actor_of(request), reason=asked.reason)
    return _moved(platform, moved)


@router.post("/v1/models/{model}/versions/{version}/archive", summary="Archive a version")
def archive(request: Request, model: str, version: str, asked: Because) -> MovedShape:
    """Take a version out of use; its files and its history stay."""
    platform = platform_of(request)
    moved = platform.runtime.registry.archive(model, version, actor=actor_of(request), reason=asked.reason)
    return _moved(platform, moved)


@router.post("/v1/reload", summary="Load what is live")
def reload(request: Request) -> LoadedShape:
    """Take over versions and weights as registry and audit log have them now.

    The engine does so by itself within a second; this answers when it is done, and says what does not work.
    """
    platform = platform_of(request)
    found = platform.runtime.load_routes()
    return LoadedShape(
        loaded={name: [one.label for one in versions] for name, versions in found.items()},
        serving=serving(platform),
        problems=_problems(platform),
    )


def serving(platform: Platform) -> dict[str, dict[str, str]]:
    """By endpoint and arm the version with which the engine decides."""
    routes = platform.runtime.routes
    return {
        name: {arm.name: arm.named.version for arm in routes[name].serving} for name in routes.plan.endpoints
    }


def _moved(platform: Platform, version: ModelVersion) -> MovedShape:
    platform.runtime.load_routes()
    return MovedShape(version=version_of(version), serving=serving(platform), problems=_problems(platform))


def _problems(platform: Platform) -> dict[str, str]:
    runtime = platform.runtime
    problems = dict(runtime.problems)
    return {name: problems[name] for name in (*runtime.plan.endpoints, "routes") if name in problems}
