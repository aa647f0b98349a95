"""Jobs: long work in processes of its own, beside the engine and of the lowest priority.

A bounded number runs at once, a bounded number waits. What became of them is kept on disk, bounded too. A job that waited when
the server ended waits on; one that ran is marked as failed.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.app.runtime import state_folder
from penstock.core.errors import NotFoundError, OverloadError, StoreError
from penstock.serving.job_child import JobProcess, job_command
from penstock.serving.job_errors import error_of
from penstock.serving.job_records import Job, JobFolder, State, too_many
from penstock.serving.problems import ProblemError, problem_of, problem_values

if TYPE_CHECKING:
    from penstock.core.clock import Clock

_log = logging.getLogger(__name__)

WAITING = 50
"""Most jobs that wait, of those that are asked for and of figures that somebody looks at each."""
LONGEST_S, LONGEST_DOWNLOAD_S = 6 * 3600.0, 3600.0
"""A job, or what makes a download, that takes longer is ended."""
RETRY_AFTER_S = 5.0
PATIENCE_S = 3.0
"""How long the end of the server waits for the processes of jobs."""
SERVER_ENDED = "the server ended while the job ran. Start it again."


class Jobs:
    """The jobs of a project.

    Parameters
    ----------
    root
        The project.
    clock
        Dates them.
    at_once
        How many may run; default: one less than there are processors, at least one.
    waiting
        How many may wait, in either queue.
    command
        How the process of a job is started; default: `penstock.serving.job_process`.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        at_once: int | None = None,
        waiting: int = WAITING,
        command: Sequence[str] | None = None,
    ) -> None:
        self._clock = clock
        self._command = list(command or job_command(root))
        self._processors = max((os.cpu_count() or 1) - 1, 1)
        self.at_once = self._processors if at_once is None else at_once
        self.most_waiting = waiting
        self._folder = JobFolder(state_folder(root) / "jobs")
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._children: dict[str, JobProcess] = {}
        self._streams = 0
        self._figures_last = True
        self._cancelled: set[str] = set()
        self._workers: list[threading.Thread] = []
        self._closed = False
        for job in self._folder.all():
            self._jobs[job.id] = job
            if job.state == "running":
                self._end(job, "failed", error=_failed(SERVER_ENDED))
        if any(job.state == "queued" for job in self._jobs.values()):
            self._start_workers()

    def submit(
        self,
        kind: str,
        params: dict[str, Any],
        *,
        actor: str,
        reason: str = "",
        stamp: str = "",
        once: bool = False,
        figures: bool = False,
        before: Callable[[Job], object] = lambda _: None,
    ) -> Job:
        """Let a job wait for its turn; with `once` return the one that is under way and was asked the same, if there is one.

        Parameters
        ----------
        figures
            Whether somebody only looks: such jobs have a queue of their own, and take turns with the others.
        before
            Called with the job before it waits; what it raises keeps the job from beginning.

        Raises
        ------
        OverloadError
            Too many wait.
        """
        with self._changed:
            under_way = self.newest(kind, params, "queued", "running") if once else None
            if under_way is not None:
                return under_way
            count = sum(job.state == "queued" and job.figures == figures for job in self._jobs.values())
            if count >= self.most_waiting or self._closed:
                raise OverloadError(
                    f"{count} jobs wait, and at most {self.most_waiting} may. Ask again when some have ended.",
                    retry_after_s=RETRY_AFTER_S,
                )
            # Ids are in the order of asking, even where the clock stands still or goes back.
            now_us = max(
                self._clock.now_us(), max((one.created_us + 1 for one in self._jobs.values()), default=0)
            )
            job = Job(
                id=f"job-{now_us:016x}{secrets.token_hex(4)}",
                kind=kind,
                params=params,
                actor=actor,
                reason=reason,
                created_us=now_us,
                stamp=stamp,
                figures=figures,
            )
            before(job)
            self._folder.save(job)
            self._jobs[job.id] = job
            self._changed.notify()
        self._start_workers()
        return job

    def get(self, job_id: str) -> Job:
        """The job; `NotFoundError` where there is none of that id, any more."""
        job = self._jobs.get(job_id)
        if job is None:
            raise NotFoundError(
                f"job {job_id[:60]!r} does not exist; the newest {len(self._jobs)} are kept. See GET /v1/jobs."
            )
        return job

    def all(self) -> list[Job]:
        """Those that are kept, newest first."""
        with self._changed:
            return sorted(self._jobs.values(), key=lambda job: job.id, reverse=True)

    def result(self, job: Job) -> Any:
        """What came of it, as JSON values; None before it has succeeded."""
        data = self._folder.result(job)
        return None if data is None else msgspec.json.decode(data)

    def newest(self, kind: str, params: dict[str, Any], *states: State) -> Job | None:
        """The newest job that was asked the same and is in one of these states."""
        return next(
            (job for job in self.all() if job.state in states and job.kind == kind and job.params == params),
            None,
        )

    def cancel(self, job: Job) -> None:
        """End a job, whether it waits or runs; one that has ended stays as it is."""
        with self._changed:
            if job.state == "queued":
                self._end(job, "cancelled")
            elif job.state == "running":
                self._cancelled.add(job.id)
                child = self._children.get(job.id)
                if child is not None:
                    child.end()

    def stream(self, asked: dict[str, Any]) -> JobProcess:
        """A process whose bytes somebody waits for, beside the jobs; close it by `end_stream`.

        Raises
        ------
        OverloadError
            As many run as may.
        """
        with self._changed:
            if self._closed or self._streams >= self.at_once:
                raise OverloadError(
                    f"{self._streams} downloads are being made, and at most {self.at_once} may. Ask again when one has ended.",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._streams += 1
        try:
            return self._child(asked, LONGEST_DOWNLOAD_S)
        except OSError as error:
            with self._changed:
                self._streams -= 1
            raise StoreError(f"no process could be started: {error}. See what the machine lacks.") from error

    def end_stream(self, child: JobProcess) -> None:
        """Let go of what `stream` gave, when its process has ended."""
        child.end(patience_s=1.0)
        child.wait()
        with self._changed:
            self._streams -= 1

    def let_go(self, child: JobProcess) -> None:
        """The same, without waiting."""
        threading.Thread(target=self.end_stream, args=[child], name="penstock-job-end", daemon=True).start()

    def close(self) -> None:
        """End what runs; what waits waits for the next start."""
        with self._changed:
            self._closed = True
            for child in self._children.values():
                child.end(patience_s=1.0)
            self._changed.notify_all()
        for worker in self._workers:
            worker.join(PATIENCE_S)

    def _child(self, asked: dict[str, Any], longest_s: float) -> JobProcess:
        return JobProcess(self._command, asked, threads=self._processors, longest_s=longest_s)

    def _start_workers(self) -> None:
        with self._changed:
            if self._closed or len(self._workers) >= self.at_once:
                return
            self._workers = [
                threading.Thread(target=self._work, name=f"penstock-job-{i}", daemon=True)
                for i in range(self.at_once)
            ]
            for worker in self._workers:
                worker.start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            asked = {"kind": job.kind, "params": job.params, "actor": job.actor, "reason": job.reason}
            try:
                child = self._child(asked, LONGEST_S)
            except OSError as error:
                with self._changed:
                    self._end(job, "failed", error=_failed(f"no process could be started: {error}"))
                continue
            try:
                self._follow(job, child)
            except Exception as error:  # noqa: BLE001 - a defect must not end the worker, or nothing would run any more
                _log.exception("job %s", job.id)
                with self._changed:
                    self._children.pop(job.id, None)
                    self._end(job, "failed", error=_failed(f"its messages could not be understood: {error}"))
                child.end()
                child.wait()

    def _next(self) -> Job | None:
        """The job that waits longest, by turns of either queue, marked as running; None when there is an end."""
        with self._changed:
            while not self._closed:
                waiting = [job for job in self._jobs.values() if job.state == "queued"]
                if waiting:
                    job = min(waiting, key=lambda one: (one.figures == self._figures_last, one.id))
                    self._figures_last = job.figures
                    job.state, job.started_us = "running", self._clock.now_us()
                    job.version += 1
                    self._note(job)
                    return job
                self._changed.wait()
        return None

    def _follow(self, job: Job, child: JobProcess) -> None:
        """Hear a job to its end."""
        with self._changed:
            self._children[job.id] = child
            if self._closed or job.id in self._cancelled:
                child.end()
        result: Any = None
        problem: dict[str, Any] | None = None
        succeeded = False
        for message in child.messages():
            if "result" in message:
                result, succeeded = message["result"], True
            elif "error" in message:
                problem = _problem_of(message["error"])
            else:
                self._progress(job, message)
        code, log = child.wait()
        if succeeded and code == 0:
            try:
                self._folder.save_result(job, msgspec.json.encode(result))
            except StoreError as error:
                succeeded, problem = False, _failed(str(error))
        with self._changed:
            del self._children[job.id]
            was_cancelled = job.id in self._cancelled
            self._cancelled.discard(job.id)
            if succeeded and code == 0:
                self._end(job, "succeeded")
            elif was_cancelled:
                self._end(job, "cancelled")
            else:
                why = SERVER_ENDED if self._closed else _crashed(code)
                self._end(job, "failed", error=problem or _failed(why), log=log)

    def _progress(self, job: Job, message: dict[str, Any]) -> None:
        with self._changed:
            job.done, job.total = message.get("done", job.done), message.get("total", job.total)
            job.said = str(message.get("said", job.said))[:500]
            job.version += 1

    def _end(self, job: Job, state: State, *, error: dict[str, Any] | None = None, log: str = "") -> None:
        job.error, job.log, job.ended_us, job.version = error, log, self._clock.now_us(), job.version + 1
        self._note(msgspec.structs.replace(job, state=state))
        job.state = state  # what anybody has seen to end has ended after a crash, too
        for old in too_many(sorted(self._jobs.values(), key=lambda one: one.id)):
            self._folder.remove(old)
            del self._jobs[old.id]

    def _note(self, job: Job) -> None:
        try:
            self._folder.save(job)
        except StoreError as error:  # it goes on; the next start may see an older state
            _log.warning("%s", error)


def _failed(why: str) -> dict[str, Any]:
    return problem_values(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "job", why))


def _crashed(code: int) -> str:
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"the job's process {how}; `log` has what it said last."


def _problem_of(error: dict[str, Any]) -> dict[str, Any]:
    """An error that a process told of, as it would be over HTTP."""
    return problem_values(problem_of(error_of(error)))
