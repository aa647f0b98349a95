"""Jobs on disk: a small file a job, one for its result, in ``.penstock/jobs``. What is old is removed, so that they stay few."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from penstock.core.errors import StoreError

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled"})

KEPT_JOBS = 200
KEPT_BYTES = 256 << 20
"""Jobs that have ended are kept up to these numbers, the newest."""
_ID = re.compile(r"job-[0-9a-f]{24}")


class Job(msgspec.Struct, kw_only=True):
    """One piece of long work.

    Attributes
    ----------
    kind, params
        What is done; JSON values that the kind's model has checked.
    actor, reason
        Who asked for it, and why.
    stamp
        What the result depends on besides `params`; a newer stamp says that it may be another by now.
    figures
        Whether it was begun because somebody looks at figures.
    done, total
        How far it is, in units of its own; 0 of 0 where that is not known.
    said
        What it does at the moment.
    error
        Of one that failed: ``type``, ``title``, ``status`` and ``detail``, as in an answer over HTTP.
    log
        The end of what its process wrote to stderr, of one that failed.
    version
        Grows with every change.
    """

    id: str
    kind: str
    params: dict[str, Any]
    actor: str
    reason: str
    created_us: int
    stamp: str = ""
    figures: bool = False
    state: State = "queued"
    started_us: int | None = None
    ended_us: int | None = None
    done: int = 0
    total: int = 0
    said: str = ""
    error: dict[str, Any] | None = None
    log: str = ""
    result_bytes: int = 0
    version: int = 0

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ENDED


_job_decoder = msgspec.json.Decoder(Job)


class JobFolder:
    """The jobs of a project.

    Parameters
    ----------
    folder
        Made with the first job.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Job]:
        """Every job, oldest first; files that are none are left alone."""
        found = []
        for path in sorted(self._folder.glob("job-*.json")):
            if _ID.fullmatch(path.stem):
                try:
                    found.append(_job_decoder.decode(path.read_bytes()))
                except msgspec.DecodeError:  # of another version of Penstock
                    continue
        return found

    def save(self, job: Job) -> None:
        """Write a job; it appears whole or not at all."""
        self._write(f"{job.id}.json", msgspec.json.encode(job))

    def save_result(self, job: Job, result: bytes) -> None:
        """Keep what came of a job: JSON."""
        self._write(f"{job.id}.result", result)
        job.result_bytes = len(result)

    def result(self, job: Job) -> bytes | None:
        """What `save_result` kept; None where there is nothing."""
        try:
            return (self._folder / f"{job.id}.result").read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, job: Job) -> None:
        """Remove a job and its result."""
        for name in (f"{job.id}.result", f"{job.id}.json"):
            (self._folder / name).unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        path = self._folder / name
        aside = path.with_name(f".{name}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            aside.replace(path)
        except OSError as error:
            raise StoreError(
                f"jobs: {path} cannot be written ({error}). Check the disk and its rights."
            ) from error


def too_many(jobs: list[Job], *, most: int = KEPT_JOBS, most_bytes: int = KEPT_BYTES) -> list[Job]:
    """Those of `jobs`, oldest first, that are to be removed: ended, and beyond the newest `most` or `most_bytes`."""
    surplus, size = [], 0
    ended = [job for job in jobs if job.ended]
    for number, job in enumerate(reversed(ended), start=1):
        size += job.result_bytes
        if number > most or (size > most_bytes and number > 1):
            surplus.append(job)
    return surplus
