"""The states of single keys as bytes that travel: how they are named, sealed and opened."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import msgspec

from penstock.core.errors import SnapshotError
from penstock.plan.compile import view_fingerprint
from penstock.plan.nodes import Plan

FORMAT_VERSION = 1
_HEAD = struct.Struct(">8sI16s")  # magic, format version, the view's fingerprint; behind it the checksum
_MAGIC = b"PSKEYBLB"
_CHECKSUM_BYTES = 16


class Published(msgspec.Struct, frozen=True):
    """How far the published states are.

    Attributes
    ----------
    store
        Of which log.
    position
        All that was accepted before it is in them.
    at_us
        When that was so.
    views
        Fingerprints of the views of which all keys are there.
    """

    store: str
    position: int
    at_us: int
    views: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlobNames:
    """How the states of a plan's views are named below a prefix, so that no two projects or definitions share one."""

    prefix: bytes
    views: tuple[str, ...]
    """Fingerprint by view."""

    @classmethod
    def of(cls, plan: Plan, namespace: str) -> BlobNames:
        """Names of the views of `plan`."""
        found = [view_fingerprint(plan, view) for view in plan.views]
        return cls(f"penstock:{namespace}:".encode(), tuple(found))

    @property
    def published(self) -> bytes:
        """Where it stands how far they are."""
        return self.prefix + b"published"

    @property
    def begun(self) -> bytes:
        """Where who publishes leaves a token, before anything else."""
        return self.prefix + b"begun"

    def view(self, index: int) -> bytes:
        """With what the names of a view's keys begin."""
        return self.prefix + self.views[index].encode() + b":"

    def parse(self, name: bytes) -> tuple[int, bytes] | None:
        """The view and the key of a name; None where it is of no view of this plan."""
        fingerprint, colon, key = name[len(self.prefix) :].partition(b":")
        known = fingerprint.decode("ascii", "replace")
        return (self.views.index(known), key) if colon and known in self.views else None


def seal(fingerprint: str, position: int, state: bytes) -> bytes:
    """The state of a key of a view, as of a position, with what is needed to trust it."""
    head = _HEAD.pack(_MAGIC, FORMAT_VERSION, _digest(fingerprint))
    return head + _checksum(head, position, state) + state


def unseal(fingerprint: str, position: int, data: bytes) -> bytes:
    """The state that `seal` was given.

    Raises
    ------
    SnapshotError
        Where the bytes are damaged, of another position, format version or view.
    """
    start = _HEAD.size + _CHECKSUM_BYTES
    head, checksum, state = data[: _HEAD.size], data[_HEAD.size : start], data[start:]
    if len(data) < start or checksum != _checksum(head, position, state):
        raise SnapshotError(f"state of a key: damaged ({len(data)} bytes). It is published anew.")
    magic, version, view = _HEAD.unpack(head)
    if (magic, version, view) != (_MAGIC, FORMAT_VERSION, _digest(fingerprint)):
        raise SnapshotError(
            f"state of a key: of another view or format ({version} found, {FORMAT_VERSION} is read). It is published anew."
        )
    return state


def _digest(fingerprint: str) -> bytes:
    return hashlib.blake2b(fingerprint.encode(), digest_size=16).digest()


def _checksum(head: bytes, position: int, state: bytes) -> bytes:
    digest = hashlib.blake2b(head + position.to_bytes(8, "big"), digest_size=_CHECKSUM_BYTES)
    digest.update(state)
    return digest.digest()
