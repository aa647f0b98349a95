"""The processes beside a run: the audit, the learners, the watch over drift, retraining, the export. They start with it and end with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from penstock.app.auditing import AuditBeside
from penstock.app.drift_beside import DriftBeside
from penstock.app.exporting_beside import ExportBeside
from penstock.app.learners_beside import LearnersBeside
from penstock.app.retraining_beside import RetrainingBeside

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime


class Beside:
    """What goes on beside a running project; use it as a context manager around the run.

    Parameters
    ----------
    runtime
        The open project.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.audit = AuditBeside(runtime.project.root, runtime.settings.audit.rate)
        self.learners = LearnersBeside(runtime)
        self.drift = DriftBeside(runtime)
        self.retraining = RetrainingBeside(runtime)
        self.export = ExportBeside(runtime)
        self._all = (self.audit, self.learners, self.drift, self.retraining, self.export)

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            for one in self._all:
                opened.enter_context(one)
            opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # All at the same time: each may take a while to come to a point where it can stop.
        with ThreadPoolExecutor(len(self._all)) as ending:
            for ended in [ending.submit(one.__exit__, kind, error, trace) for one in self._all]:
                ended.result()

    def look(self) -> str:
        """What they have to say, in a few words; call it as often as you like."""
        every = (self.learners, self.drift, self.retraining, self.audit, self.export)
        return " · ".join(filter(None, (one.look() for one in every)))

    def finish(self) -> None:
        """Wait until all that is committed now is learned and watched for drift, and what is due is trained."""
        self.learners.finish()
        self.drift.finish()
        self.retraining.finish()

    def results(self) -> list[str]:
        """What was learned, noticed and trained, a line each."""
        return list(filter(None, (self.learners.look(), self.drift.look(), self.retraining.look())))
