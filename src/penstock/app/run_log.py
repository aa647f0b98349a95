"""What operators need to know of a run, as log lines: started, route changed, retraining, alerts, problems, drained.

A thread looks at what the parts of the run say of themselves, once a second. The engine does not know of it.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from penstock.app.logs import logger
from penstock.app.retraining_journal import ACTION
from penstock.core.errors import PenstockError

if TYPE_CHECKING:
    from penstock.app.alerting import Alerting
    from penstock.app.runtime import Runtime

LOOK_EVERY_S = 1.0
Arms = dict[tuple[str, str], tuple[str, float]]


class RunLog:
    """Logs what changes while a project runs; use it as a context manager around the run.

    Parameters
    ----------
    runtime
        The open project.
    """

    def __init__(self, runtime: Runtime, *, every_s: float = LOOK_EVERY_S) -> None:
        self._runtime, self._every_s = runtime, every_s
        self._log = logger("penstock.run")
        self.alerts: Alerting | None = None
        """What sends alerts, once there is something."""
        self._problems: dict[str, str] = {}
        self._arms: Arms = {}
        self._told: Counter[tuple[str, str]] = Counter()
        self._audited = 0
        self._began = runtime.engine.position
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="penstock-run-log", daemon=True)

    def __enter__(self) -> Self:
        runtime = self._runtime
        self._problems = dict(runtime.problems)  # those are told when the project is opened
        self._arms = self._serving()
        self._audited = self._newest_row()
        self._log.info(
            "started",
            project=runtime.project.name,
            definitions=runtime.plan.fingerprint[:12],
            log_rows=self._began,
            serving={f"{endpoint}/{arm}": version for (endpoint, arm), (version, _) in self._arms.items()},
        )
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        self._thread.join()
        self.look()
        rows = self._runtime.engine.position - self._began
        if error is None:
            self._log.info("drained", new_rows=rows, log_rows=self._runtime.engine.position)
        elif not isinstance(error, KeyboardInterrupt | SystemExit):
            self._log.error("stopped", new_rows=rows, error=f"{type(error).__name__}: {error}")

    def look(self) -> None:
        """Log what has changed since the last look."""
        self._look_at_problems()
        self._look_at_routes()
        self._look_at_retraining()
        self._look_at_alerts()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()

    def _look_at_problems(self) -> None:
        now = dict(self._runtime.problems)
        for what, text in now.items():
            if self._problems.get(what) != text:
                self._log.warning("problem", what=what, detail=text)
        for what in self._problems.keys() - now.keys():
            self._log.info("problem solved", what=what)
        self._problems = now

    def _look_at_routes(self) -> None:
        now = self._serving()
        for (endpoint, arm), (version, weight) in now.items():
            before = self._arms.get((endpoint, arm))
            if before != (version, weight):
                self._log.info(
                    "route changed",
                    endpoint=endpoint,
                    arm=arm,
                    version=version,
                    weight=weight,
                    before=None if before is None else before[0],
                )
        for endpoint, arm in self._arms.keys() - now.keys():
            self._log.warning(
                "route changed", endpoint=endpoint, arm=arm, version=None, before=self._arms[endpoint, arm][0]
            )
        self._arms = now

    def _look_at_retraining(self) -> None:
        newest = self._newest_row()
        if newest == self._audited:
            return
        try:
            rows = [
                row for row in self._runtime.routes.audit.rows(action=ACTION) if row.sequence > self._audited
            ]
        except PenstockError:  # busy, or away: it is looked at again
            return
        for row in rows:
            values = row.values()
            self._audited = row.sequence
            if values["event"] == "begin":
                self._log.info(
                    "retraining started", model=row.subject, trigger=values["trigger"], why=row.reason
                )
            elif values["event"] == "end":
                told: dict[str, Any] = {
                    name: values.get(name) for name in ("outcome", "version", "verdict", "seconds")
                }
                level = self._log.error if values["outcome"] == "failed" else self._log.info
                level("retraining ended", model=row.subject, why=row.reason, **told)
        self._audited = max(self._audited, newest)

    def _look_at_alerts(self) -> None:
        if self.alerts is None:
            return
        now = self.alerts.outcomes()
        for (alert, outcome), count in (now - self._told).items():
            level = self._log.info if outcome == "sent" else self._log.warning
            level(f"alert {outcome}", alert=alert, count=count)
        self._told = now

    def _serving(self) -> Arms:
        routes = self._runtime.routes
        return {
            (name, arm.name): (arm.named.version.partition("+")[0], arm.weight)
            for name in self._runtime.plan.endpoints
            for arm in (*routes[name].serving, *routes[name].shadows)
        }

    def _newest_row(self) -> int:
        try:
            return self._runtime.routes.audit.head()[0]
        except PenstockError:
            return self._audited
