"""Errors over HTTP: the one place that decides about status codes. The shape is that of RFC 9457."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from penstock.core.errors import (
    ContractError,
    DeadlineError,
    DefinitionError,
    InputError,
    MissingDependencyError,
    ModelError,
    NotFoundError,
    OverloadError,
    PenstockError,
    ProjectError,
    SettingsError,
    StoreError,
    UncertainError,
)
from penstock.engine.card_numbers import masked

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1.0
_LONGEST = 1500
"""Characters of a detail: an answer stays below 2 KiB, whatever was sent."""

_log = logging.getLogger(__name__)

STATUS: dict[type[PenstockError], tuple[HTTPStatus, str]] = {
    NotFoundError: (HTTPStatus.NOT_FOUND, "not_found"),
    InputError: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input"),
    ContractError: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_event"),
    DefinitionError: (HTTPStatus.CONFLICT, "definitions"),
    ModelError: (HTTPStatus.CONFLICT, "model"),
    ProjectError: (HTTPStatus.CONFLICT, "project"),
    SettingsError: (HTTPStatus.CONFLICT, "settings"),
    MissingDependencyError: (HTTPStatus.NOT_IMPLEMENTED, "missing_dependency"),
    OverloadError: (HTTPStatus.TOO_MANY_REQUESTS, "overloaded"),
    StoreError: (HTTPStatus.SERVICE_UNAVAILABLE, "store"),
    UncertainError: (HTTPStatus.GATEWAY_TIMEOUT, "uncertain"),
}
"""Status and code of an error by its class, or the nearest above it."""


class ProblemError(Exception):
    """An answer that is no success, for a reason that only HTTP knows of.

    Parameters
    ----------
    status, code
        What it is, for machines.
    detail
        What was found, what is allowed, what to do.
    retry_after_s
        When asking again may help.
    members
        More members of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        retry_after_s: float | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.retry_after_s = retry_after_s
        self.members = members


def problem_of(error: PenstockError) -> ProblemError:
    """What an error of ours is over HTTP.

    >>> problem_of(NotFoundError("model 'x' does not exist")).status
    <HTTPStatus.NOT_FOUND: 404>
    """
    if isinstance(error, DeadlineError):
        if error.taken:
            return ProblemError(HTTPStatus.GATEWAY_TIMEOUT, "deadline_taken", str(error))
        return ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, "deadline", str(error), retry_after_s=RETRY_AFTER_S
        )
    status, code = next(
        (STATUS[kind] for kind in type(error).__mro__ if kind in STATUS),
        (HTTPStatus.INTERNAL_SERVER_ERROR, "internal"),
    )
    retry_after_s = error.retry_after_s if isinstance(error, OverloadError) else None
    if retry_after_s is None and status is HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after_s = RETRY_AFTER_S
    return ProblemError(status, code, str(error), retry_after_s=retry_after_s)


def problem_values(problem: ProblemError) -> dict[str, Any]:
    """The members that every problem has, as JSON values."""
    return {
        "type": f"urn:penstock:problem:{problem.code}",
        "title": problem.status.phrase,
        "status": int(problem.status),
        "detail": masked(problem.detail[:_LONGEST].encode("utf-8", "replace")).decode(),
    }


def response_of(problem: ProblemError, request_id: str = "") -> Response:
    """The answer over HTTP, below 2 KiB."""
    body = problem_values(problem)
    if request_id:
        body["request_id"] = request_id
    headers: Mapping[str, str] = {}
    if problem.retry_after_s is not None:
        headers = {"Retry-After": str(math.ceil(problem.retry_after_s))}
    content = msgspec.json.encode(body | problem.members)
    return Response(content, int(problem.status), headers, MEDIA_TYPE)


def answer_to(error: ProblemError | PenstockError, request_id: str = "") -> Response:
    """What a caller is told of an error that is foreseen."""
    return response_of(error if isinstance(error, ProblemError) else problem_of(error), request_id)


def install(app: FastAPI) -> None:
    """Let `app` answer every error as a problem."""

    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> Response:
        return answer_to(error, _id_of(request))

    @app.exception_handler(PenstockError)
    async def ours(request: Request, error: PenstockError) -> Response:
        return answer_to(error, _id_of(request))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:10])
        return response_of(
            ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", found), _id_of(request)
        )

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "_").replace("-", "_")
        response = response_of(ProblemError(status, code, str(error.detail)), _id_of(request))
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        path = masked(request.url.path.encode("utf-8", "replace")).decode()
        _log.error("a request failed: %s %s", request.method, path, exc_info=error)
        detail = "something went wrong inside; the server's log has the traceback under this request id. Please report it."
        return response_of(
            ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail), _id_of(request)
        )


def _id_of(request: Request) -> str:
    return str(request.scope.get("request_id", ""))
