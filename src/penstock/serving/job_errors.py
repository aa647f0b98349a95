"""What a job's process failed for, told from there to here: the error's class by name, and its message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.core import errors
from penstock.core.errors import PenstockError


def told(error: PenstockError) -> dict[str, str]:
    """An error as JSON values.

    >>> told(errors.NotFoundError("model 'x' does not exist"))
    {'kind': 'NotFoundError', 'detail': "model 'x' does not exist"}
    """
    return {"kind": type(error).__name__, "detail": str(error)}


def error_of(values: Mapping[str, Any]) -> PenstockError:
    """The error that `told` told of; one that takes more than a message is told as the nearest above it that does not."""
    kind = getattr(errors, str(values.get("kind")), PenstockError)
    if not (isinstance(kind, type) and issubclass(kind, PenstockError)):
        kind = PenstockError
    if issubclass(kind, errors.ContractError | errors.DeadlineError):
        kind = PenstockError
    return kind(str(values.get("detail", "")))
