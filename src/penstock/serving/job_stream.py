"""Bytes that a process makes for a download: an error before the first of them is an answer, one after them cuts it off."""

from __future__ import annotations

import json

from penstock.core.errors import StoreError
from penstock.serving.job_child import JobProcess
from penstock.serving.job_errors import error_of

PART_BYTES = 256 << 10
_ERROR = b'{"error":'


def first_bytes(child: JobProcess) -> bytes:
    """The first part; raises what the process fails for, if it fails before."""
    data = _read(child)
    if data.startswith(_ERROR):
        while more := _read(child):
            data += more
        raise error_of(json.loads(data)["error"])
    if not data:
        _check(child)
    return data


def rest(child: JobProcess) -> bytes:
    """A further part; empty at the end. Raises `StoreError` where the process failed: what was sent is not all."""
    data = _read(child)
    if not data:
        _check(child)
    return data


def _read(child: JobProcess) -> bytes:
    found: bytes = child.stdout.read1(PART_BYTES)  # type: ignore[attr-defined]
    return found


def _check(child: JobProcess) -> None:
    code, log = child.wait()
    if code:
        raise StoreError(f"the rows could not all be made; its process ended with code {code}: {log[-500:]}")
