"""Models: what is registered, where it comes from, what happened to it. Changing it is `promotions`."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response

from penstock.app.model_lineage import lineage_of_version
from penstock.core.errors import CorruptionError, NotFoundError
from penstock.core.time import to_us
from penstock.models.gates import GateReport
from penstock.models.manifest import read_files, sha256
from penstock.models.versions import report_title
from penstock.monitoring.profile import parse_profile
from penstock.serving.access import GuardedRoute
from penstock.serving.model_shapes import (
    GateShape,
    HistoryShape,
    ModelShape,
    ProfileColumnShape,
    VersionDetail,
    VersionLineage,
    VersionShape,
    gate_of,
    manifest_of,
    manifest_values,
    move_of,
    version_of,
    version_values,
)
from penstock.serving.paging import Cursor, Limit, Page, part
from penstock.serving.platform import platform_of
from penstock.serving.problems import ProblemError
from penstock.serving.shapes import ProblemShape

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.models.registry import ModelRegistry, ModelVersion

router = APIRouter(tags=["models"], route_class=GuardedRoute, responses={404: {"model": ProblemShape}})

PNG = "image/png"
_GATE = "gate-"


@router.get("/v1/models", summary="List models")
def list_models(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Page[ModelShape]:
    """Models that are defined or have versions, by name, with the versions in use."""
    runtime = platform_of(request).runtime
    names = sorted({*runtime.project.models, *runtime.registry.names()})
    some, after = part(names, str, cursor=cursor, limit=limit)
    return Page(items=[_model(runtime, name) for name in some], next=after)


@router.get("/v1/models/{model}", summary="Get a model")
def get_model(request: Request, model: str) -> ModelShape:
    """One model, with the versions in use."""
    runtime = platform_of(request).runtime
    if model not in runtime.project.models:
        check_model(runtime.registry, model)
    return _model(runtime, model)


@router.get("/v1/models/{model}/versions", summary="List a model's versions")
def list_versions(
    request: Request, model: str, limit: Limit = 100, cursor: Cursor = None
) -> Page[VersionShape]:
    """All versions, newest first, with stage, aliases and the figures of their test period."""
    runtime = platform_of(request).runtime
    if model not in runtime.project.models:
        check_model(runtime.registry, model)
    versions = reversed(runtime.registry.versions(model))
    some, after = part(versions, _number, cursor=cursor, limit=limit, descending=True)
    return Page(items=[version_of(one) for one in some], next=after)


@router.get("/v1/models/{model}/versions/{version}", summary="Get a version")
def get_version(request: Request, model: str, version: str) -> VersionDetail:
    """One version, by number or alias (`champion`, `challenger`, `previous`): its manifest, pictures and gates.

    Every byte of its files is checked.
    """
    registry = platform_of(request).runtime.registry
    found = registry.get(model, version)
    titles = registry.attachments(found.name, found.version)
    return VersionDetail(
        **version_values(found),
        manifest=manifest_values(manifest_of(found.folder, found.digest)),
        plots=[title for title in titles if title.endswith(".png")],
        gates=[_digest(title) for title in titles if _is_gate(title)],
    )


@router.get(
    "/v1/models/{model}/versions/{version}/plots/{name}",
    summary="Get a picture of a version",
    response_class=Response,
    responses={200: {"content": {PNG: {}}, "description": "The picture."}},
)
def get_plot(request: Request, model: str, version: str, name: str) -> Response:
    """ROC, precision-recall or calibration of its test period, as PNG."""
    registry = platform_of(request).runtime.registry
    found = registry.get(model, version)
    plots = [t for t in registry.attachments(found.name, found.version) if t.endswith(".png")]
    if name not in plots:
        raise NotFoundError(
            f"{found.label} has no picture {name[:60]!r}; there are {', '.join(plots) or 'none'}."
        )
    data = registry.attachment(found.name, found.version, name)
    return Response(data, media_type=PNG, headers={"Cache-Control": "private, max-age=3600"})


@router.get("/v1/models/{model}/versions/{version}/gates", summary="List a version's gate reports")
def list_gates(request: Request, model: str, version: str) -> list[GateShape]:
    """Every report of the gate on a version, newest first."""
    registry = platform_of(request).runtime.registry
    found = registry.get(model, version)
    titles = [t for t in registry.attachments(found.name, found.version) if _is_gate(t)]
    reports = [read_report(registry, found, _digest(title)) for title in titles]
    return [gate_of(one) for one in sorted(reports, key=lambda one: -one.created_us)]


@router.get("/v1/models/{model}/versions/{version}/gates/{digest}", summary="Get a gate report")
def get_gate(request: Request, model: str, version: str, digest: str) -> GateShape:
    """What the gate found about a version, rule by rule; `digest` may be its first sixteen digits."""
    registry = platform_of(request).runtime.registry
    return gate_of(read_report(registry, registry.get(model, version), digest))


@router.get("/v1/models/{model}/versions/{version}/profile", summary="Get a version's training data in short")
def get_profile(request: Request, model: str, version: str) -> list[ProfileColumnShape]:
    """Exact counts of features, scores and labels of the training data, in up to 200 bins: what drift is measured against."""
    found = platform_of(request).runtime.registry.get(model, version)
    files = read_files(found.folder, digest=found.digest)
    if "profile" not in files.contents:
        raise NotFoundError(
            f"{found.label}: it was registered without a profile of its training data. Train again: penstock train {model}."
        )
    profile = parse_profile(files["profile"], where=found.label)
    return [
        ProfileColumnShape(
            name=one.name,
            role=one.role,
            is_discrete=one.is_discrete,
            cuts=list(one.cuts),
            counts=list(one.counts),
            rows=one.rows,
            missing=one.missing,
            mean=one.mean,
            spread=one.spread,
        )
        for one in profile.columns
    ]


@router.get("/v1/models/{model}/versions/{version}/lineage", summary="Get where a version comes from")
def get_lineage(request: Request, model: str, version: str) -> VersionLineage:
    """From versions of tables and the log over the data set and the features' definitions to the version and its life."""
    runtime = platform_of(request).runtime
    found = lineage_of_version(runtime.project, runtime.registry, model, version)
    values = found.to_dict()
    del values["decisions"]
    return VersionLineage(**values | {"life": [move_of(row) for row in found.life]})


@router.get("/v1/models/{model}/history", summary="Get what happened to a model")
def get_history(
    request: Request,
    model: str,
    at: Annotated[
        datetime | None, Query(description="Also say which version was live then; naive times are UTC.")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> HistoryShape:
    """Who did what to which version, when and why, newest first. The history is append-only and hash-chained."""
    registry = platform_of(request).runtime.registry
    rows = registry.history(model)
    if not rows:
        check_model(registry, model)
    some, after = part(reversed(rows), lambda row: row.sequence, cursor=cursor, limit=limit, descending=True)
    found = HistoryShape(items=[move_of(row) for row in some], next=after)
    if at is not None:
        at_us = _instant(at)
        live = registry.live_at(model, at_us)
        if live is not None:
            moves = [
                r
                for r in rows
                if r.version == live.version and r.stage == "Production" and r.time_us <= at_us
            ]
            found.live, found.since = version_of(live), move_of(moves[-1]) if moves else None
    return found


def check_model(registry: ModelRegistry, model: str) -> None:
    """Raise `NotFoundError` where nothing is registered under the name; it lists what is."""
    if not registry.versions(model):
        registry.get(model, "champion")


def read_report(registry: ModelRegistry, version: ModelVersion, digest: str) -> GateReport:
    """A kept report on a version by (the beginning of) its digest, which is checked."""
    titles = [t for t in registry.attachments(version.name, version.version) if _is_gate(t)]
    title = report_title(digest)
    if title not in titles or len(digest) < len(_digest(title)):
        listed = ", ".join(map(_digest, titles)) or "none"
        raise NotFoundError(f"{version.label} has no gate report {digest[:64]!r}; there are {listed}.")
    data = registry.attachment(version.name, version.version, title)
    found = sha256(data)
    if not found.startswith(_digest(title)):
        raise CorruptionError(
            f"{version.label}: the gate's report {title} was changed; its SHA-256 is {found}. Restore it from a backup."
        )
    if not found.startswith(digest):
        raise NotFoundError(f"{version.label} has no gate report {digest[:64]!r}; there is {found}.")
    return GateReport.from_bytes(data)


def _model(runtime: Runtime, name: str) -> ModelShape:
    versions = runtime.registry.versions(name)
    aliases = {alias: version.label for version in versions for alias in version.aliases}
    definition = runtime.project.models.get(name)
    return ModelShape(
        name=name,
        defined=definition is not None,
        task=None if definition is None else definition.task,
        service=None if definition is None else definition.features.name,
        label=None if definition is None or definition.label is None else definition.label.name,
        endpoints=[e.name for e in runtime.plan.endpoints.values() if name in {arm.model for arm in e.arms}],
        versions=len(versions),
        champion=aliases.get("champion"),
        challenger=aliases.get("challenger"),
        previous=aliases.get("previous"),
    )


def _instant(at: datetime) -> int:
    try:
        return to_us(at)
    except OverflowError as error:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", "at: it is no time that can be."
        ) from error


def _number(version: ModelVersion) -> int:
    return version.version


def _is_gate(title: str) -> bool:
    return title.startswith(_GATE) and title.endswith(".json")


def _digest(title: str) -> str:
    return title.removeprefix(_GATE).removesuffix(".json")
