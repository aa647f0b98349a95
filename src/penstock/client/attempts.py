"""Asking until there is an answer or no time is left: which failures are worth another try, and when."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from penstock.client.calls import Call
from penstock.core.errors import (
    AccessError,
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
    UnreachableError,
)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 2.0
REFUSED = frozenset({429, 503})
"""The server did nothing; asking again is always right."""

LOST = frozenset({502, 504})
"""It may have done something; asking again is right where that comes to the same."""

BY_CODE: Mapping[str, type[PenstockError]] = {
    "not_found": NotFoundError,
    "invalid_input": InputError,
    "invalid_request": InputError,
    "definitions": DefinitionError,
    "model": ModelError,
    "project": ProjectError,
    "settings": SettingsError,
    "missing_dependency": MissingDependencyError,
    "store": StoreError,
    "uncertain": UncertainError,
}
_BY_STATUS: Mapping[int, type[PenstockError]] = {401: AccessError, 403: AccessError, 404: NotFoundError}


class Attempts:
    """The tries of one call.

    Parameters
    ----------
    call
        What is asked.
    timeout_s
        How long all tries may take together.
    now_s
        A clock that only goes forward.
    retries
        Whether to try again at all.
    """

    def __init__(
        self, call: Call, *, timeout_s: float, now_s: Callable[[], float], retries: bool = True
    ) -> None:
        self._call = call
        self._now_s = now_s
        self._until_s = now_s() + timeout_s
        self._retries = retries
        self._tries = 0
        self._draw = random.Random()  # noqa: S311 - so that clients do not come back all at once

    @property
    def left_s(self) -> float:
        """How much time is left."""
        return max(self._until_s - self._now_s(), 0.001)

    @property
    def params(self) -> dict[str, str]:
        """The query, which tells the server how long it has."""
        timed = {"timeout_ms": f"{min(self.left_s, 300) * 1000:.0f}"} if self._call.is_timed else {}
        return {**self._call.params, **timed}

    def wait_after(self, status: int, headers: Mapping[str, str], body: bytes) -> float:
        """How long to wait before the next try; raises the answer's error where there is none."""
        error = error_of(status, headers, body)
        is_worth = status in REFUSED or (status in LOST and self._call.repeatable)
        return self._wait(error, is_worth=is_worth, at_least_s=_retry_after(headers))

    def wait_after_loss(self, url: str, cause: Exception, *, sent: bool) -> float:
        """As `wait_after`, where the connection failed; `sent` says that the request may have arrived."""
        detail = f"{url}: {str(cause) or type(cause).__name__}"
        if sent:
            detail += "; what was asked may have been done" if not self._call.repeatable else ""
        error = UnreachableError(f"{detail}. Is it running? Start it with `penstock up`.")
        error.__cause__ = cause
        return self._wait(error, is_worth=self._call.repeatable or not sent)

    def _wait(self, error: PenstockError, *, is_worth: bool, at_least_s: float = 0.0) -> float:
        self._tries += 1
        grown = min(FIRST_WAIT_S * 2 ** (self._tries - 1), LONGEST_WAIT_S)
        wait: float = max(at_least_s, grown * self._draw.uniform(0.5, 1.0))
        if not is_worth or not self._retries or self._now_s() + wait >= self._until_s:
            raise error
        return wait


def answer_of(call: Call, body: bytes) -> Any:
    """What a successful answer says."""
    return call.read(json.loads(body)) if body else None


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> PenstockError:
    """The error that an answer is, of the class that the server raised, with its message."""
    problem = _problem(body)
    code = str(problem.get("type", "")).rpartition(":")[2]
    detail = str(problem.get("detail") or f"the server answered {status}")
    error = _error(status, code, detail, headers, refused="answer" in problem)
    if problem.get("request_id"):
        error.add_note(f"request {problem['request_id']}")
    return error


def _error(
    status: int, code: str, detail: str, headers: Mapping[str, str], *, refused: bool
) -> PenstockError:
    if refused or code == "invalid_event":
        return ContractError(code, detail)
    if status == 429:
        return OverloadError(detail, retry_after_s=_retry_after(headers) or 1.0)
    if code.startswith("deadline"):
        return DeadlineError(detail, taken=code == "deadline_taken")
    kind = BY_CODE.get(code) or _BY_STATUS.get(status) or (StoreError if status >= 500 else InputError)
    return kind(detail)


def _problem(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(float(headers.get("retry-after", 0)), 0.0)
    except ValueError:
        return 0.0
