"""What all routes have in common: the running project, the way to its engine, and what is live."""

from __future__ import annotations

import threading
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request

from penstock.app.answering import Answering
from penstock.app.api_keys import keys_path
from penstock.app.list_changes import PROBLEM as LISTS
from penstock.app.list_changes import note_what_is_left
from penstock.app.reasons import Reasoners
from penstock.app.request_queue import RequestQueue
from penstock.app.retraining_status import RetrainingWatch
from penstock.app.runtime import state_folder
from penstock.app.source_facts import SourceWatch
from penstock.serving.asking import Asker
from penstock.serving.decision_stream import DecisionStream
from penstock.serving.jobs import Jobs
from penstock.serving.keyring import Keyring
from penstock.serving.observability import Observability
from penstock.serving.problems import ProblemError
from penstock.serving.proxies import Proxies
from penstock.serving.sessions import Sessions
from penstock.stores.secrets import kept_secret

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.app.settings import ServeSettings
    from penstock.monitoring.live import LiveSummary


class Platform:
    """A running project as its HTTP API sees it.

    Parameters
    ----------
    runtime
        The open project; the thread that runs its engine also serves `answering`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.settings: ServeSettings = runtime.settings.serve
        self.queue = RequestQueue(max_events=self.settings.queue_events)
        self.asker = Asker(self.queue)
        self.observability = Observability(runtime, self.queue)
        self.answering = Answering(runtime, self.queue, self.observability.noting(self.asker.deliver))
        self.reasoners = Reasoners(runtime)
        self.jobs = Jobs(self.root, clock=runtime.clock)
        self.sources = SourceWatch()
        self.retraining = RetrainingWatch()
        self.job_watchers = 0
        """Streams of jobs' events that are open."""
        self.keyring = Keyring(keys_path(self.root), clock=runtime.clock)
        self.sessions = Sessions(
            self.keyring,
            lambda: kept_secret(state_folder(self.root) / "sessions.key"),
            clock=runtime.clock,
            hours=self.settings.session_hours,
        )
        self.proxies = Proxies(self.settings.trusted_proxies)
        self.decision_stream = DecisionStream(self)
        self.started_us = runtime.clock.now_us()
        self.live: LiveSummary | None = None
        """The live metrics, a fraction of a second old; None before the engine runs."""
        if any(source.is_list for source in runtime.plan.sources.values()):
            threading.Thread(target=self._note_lists, name="penstock-lists", daemon=True).start()

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.runtime.project.root

    def close(self) -> None:
        """End what runs beside; call it when no requests come any more."""
        self.jobs.close()

    def _note_lists(self) -> None:
        """Note changes of lists that a process made which ended before it could; lists are indexed by then, too."""
        problem = note_what_is_left(self.root, self.runtime.plan, clock=self.runtime.clock)
        if problem is not None:
            self.runtime.problems[LISTS] = problem

    def saw(self, summary: LiveSummary) -> None:
        """Note the live metrics; called from the engine's thread."""
        self.live = summary

    def check_ready(self) -> None:
        """Raise `ProblemError` where events cannot be taken now."""
        if self.live is None or self.runtime.engine.stopped:
            why = "the engine has stopped" if self.runtime.engine.stopped else "the engine is starting"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", f"{why}.", retry_after_s=1.0)


def platform_of(request: Request) -> Platform:
    """The platform of the application that a request came to."""
    platform: Platform = request.app.state.platform
    return platform
