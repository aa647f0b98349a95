"""Every error that Penstock raises on purpose: one root, one short tree.

Each is also the builtin that a caller would expect, so ``except ValueError`` works. A message says which
object, what was found, what is allowed, and what to do next.
"""


class PenstockError(Exception):
    """Root of all errors raised by Penstock."""


class DefinitionError(PenstockError, ValueError):
    """A definition (entity, source, view, service, model, policy) cannot mean anything."""


class PlanError(DefinitionError):
    """Definitions that are each right do not fit together."""


class ProjectError(PenstockError, RuntimeError):
    """A project folder cannot be found, loaded or is in use by another process."""


class SettingsError(PenstockError, ValueError):
    """``penstock.toml`` or an environment variable holds a value that is not allowed."""


class ContractError(PenstockError, ValueError):
    """An event does not satisfy its source's schema. `reason` is the dead-letter code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class InputError(PenstockError, ValueError):
    """Data handed to a function does not fit: a frame without a column, a key of the wrong type."""


class TransformError(PenstockError, RuntimeError):
    """A user's function failed, or returned what its definition does not allow."""


class StoreError(PenstockError, RuntimeError):
    """A store could not be opened, read or written."""


class BusyError(StoreError):
    """Another process writes to the store, and only one may."""


class AwayError(StoreError):
    """The server of a store did not answer, went away or took too long; asking again may help, whether it did it is not known."""


class UncertainError(StoreError):
    """Whether something was stored is not known; asking again with the same ids tells."""


class CorruptionError(StoreError):
    """Stored bytes do not match their checksum."""


class SnapshotError(StoreError):
    """A snapshot is damaged or belongs to another plan."""


class ModelError(PenstockError, RuntimeError):
    """A model cannot be trained, evaluated or scored."""


class ArtifactError(ModelError):
    """A model's files are damaged, foreign or fail their golden rows."""


class NotFoundError(PenstockError, LookupError):
    """A named object does not exist; the message lists those that do."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class OverloadError(PenstockError, RuntimeError):
    """More is asked for than can be done now. Nothing was taken in; `retry_after_s` says when to ask again."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineError(PenstockError, TimeoutError):
    """A deadline has passed. `taken` says whether the events were already on their way, so that they may be stored."""

    def __init__(self, message: str, *, taken: bool = False) -> None:
        super().__init__(message)
        self.taken = taken


class AccessError(PenstockError, PermissionError):
    """The server does not know the key, or the key may not do this."""


class UnreachableError(PenstockError, ConnectionError):
    """The server could not be reached, or the connection to it broke."""


class MissingDependencyError(PenstockError, ImportError):
    """An optional library is needed; the message names the extra to install."""
