"""A retraining in steps, each a process of its own: for those who have it run by an orchestrator instead of by Penstock.

    cut  →  train  →  gate  →  promote  →  reload

The steps are those of `penstock.app.retraining`, by the same rules and in the same journal. An attempt is begun by the cut and ended by
the promotion, or by `give_up`. A step may be repeated: what it does follows from the log up to the cut.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.app.retraining import Retrainer
from penstock.app.retraining_data import recent_data
from penstock.app.retraining_journal import ACTOR, Attempt, Journal, alone
from penstock.app.runtime import state_folder
from penstock.app.training import model_named, train_model
from penstock.core.errors import CorruptionError, DeadlineError, InputError, StoreError, UnreachableError
from penstock.models.gates import GateReport
from penstock.models.versions import report_title

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.models.registry import ModelVersion

REPORTS = "reports"
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Step:
    """What a step came to; the next one is told it."""

    attempt: int
    detail: dict[str, Any]


class SteppedRetrainer(Retrainer):
    """Trains a model again, a step at a time."""

    def cut(self, name: str, *, why: str) -> Step:
        """Begin an attempt: from here on the log is not looked at; records the training set, so that it can be made again."""
        model, journal = model_named(self._project, name), Journal(self._audit, name)
        with self._alone():
            attempt = journal.begin("hand", why, self._store.next_position)
            recent = recent_data(self._store, self._project, self._plan, model, stop=attempt.position)
            dataset = self._recorded(model, recent)
        detail = {"position": attempt.position, "rows": len(recent.data.labels), "dataset": dataset}
        return Step(attempt.number, detail)

    def train(self, name: str, number: int, *, dataset: str | None = None) -> Step:
        """Train and register a version; one that a killed try of this step has registered stays, and decides nothing."""
        model, attempt = model_named(self._project, name), self._open(name, number)
        with self._alone():
            recent = recent_data(self._store, self._project, self._plan, model, stop=attempt.position)
            run = train_model(
                self._project,
                model,
                recent.data,
                registry=self._registry,
                clock=self._clock,
                reports=self._project.root / REPORTS,
                actor=ACTOR,
                reason=f"retraining: {attempt.why}",
                tell=self._tell,
                dataset=dataset,
                origin=self._origin(model, recent, dataset),
            )
        return Step(number, {"version": run.version.version})

    def gate(self, name: str, number: int, version: int) -> Step:
        """Judge the version on the rows of the cut; the report is kept with it."""
        model, attempt = model_named(self._project, name), self._open(name, number)
        recent = recent_data(self._store, self._project, self._plan, model, stop=attempt.position)
        report = self._judged(model, self._registry.get(name, version), recent)
        return Step(number, {"version": version, "verdict": report.verdict, "gate": report.digest})

    def promote(self, name: str, number: int, version: int, gate: str) -> Step:
        """Put the version where its report and the model's retraining say, and end the attempt."""
        model, attempt = model_named(self._project, name), self._open(name, number)
        found = self._registry.get(name, version)
        report = self._report(found, gate)
        detail: dict[str, Any] = {"version": found.label, "verdict": report.verdict, "gate": report.digest}
        with self._alone():
            outcome, why = self._place(model, found, report, attempt, detail)
            Journal(self._audit, name).end(attempt, outcome, detail, why=why)
        return Step(number, {**detail, "outcome": outcome, "why": why})

    def give_up(self, name: str, number: int, *, why: str) -> Step:
        """End an attempt of which a step failed for good, so that everybody sees it."""
        attempt = self._open(name, number)
        Journal(self._audit, name).end(attempt, "failed", {"error": why}, why=why)
        return Step(number, {"outcome": "failed", "why": why})

    def _open(self, name: str, number: int) -> Attempt:
        """The attempt, which must be the newest and without an outcome."""
        attempts = Journal(self._audit, name).attempts()
        if not attempts or attempts[-1].number != number or attempts[-1].outcome:
            newest = f"{attempts[-1].number} ({attempts[-1].outcome or 'open'})" if attempts else "none"
            raise InputError(
                f"retraining of {name!r}: attempt {number} found; allowed is the newest while it has no outcome, and that is {newest}. "
                "Begin a new one: penstock retraining cut."
            )
        return attempts[-1]

    def _report(self, version: ModelVersion, digest: str) -> GateReport:
        """The report of the gate as it was kept, its digest checked."""
        report = GateReport.from_bytes(
            self._registry.attachment(version.name, version.version, report_title(digest))
        )
        if report.digest != digest:
            raise CorruptionError(
                f"{version.label}: its gate's report is not the one of digest {digest}. Judge it again: penstock retraining gate."
            )
        return report

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with alone(state_folder(self._project.root)) as mine:
            if not mine:
                raise StoreError(
                    "retraining: another process trains in this project; wait until it has ended."
                )
            yield


def wait_until_live(url: str, version: str, *, seconds: float, key: str | None = None) -> list[str]:
    """Wait until a running engine decides with `version` wherever its registry says so; the endpoints' arms that do.

    Raises
    ------
    UnreachableError
        Nobody answers at `url`.
    DeadlineError
        It was not taken over in that time.
    """
    end = time.monotonic() + seconds
    while True:
        arms = _arms(url, version, key)
        if arms and all(serving for _, serving in arms):
            return [name for name, _ in arms]
        if time.monotonic() > end:
            where = ", ".join(name for name, serving in arms if not serving) or "no arm of any endpoint"
            raise DeadlineError(
                f"reload: {version} was not taken over within {seconds:g} s; it should be in {where}. Look at the log of the "
                "engine, and at penstock status."
            )
        time.sleep(LOOK_SECONDS)


def _arms(url: str, version: str, key: str | None) -> list[tuple[str, bool]]:
    """The arms that a version should be in, and whether the engine has it in them."""
    import httpx

    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        answer = httpx.get(f"{url.rstrip('/')}/v1/endpoints", headers=headers, timeout=5.0)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise UnreachableError(
            f"reload: {url} does not answer ({error}). Start the engine with penstock up, or correct the address."
        ) from error
    return [
        (f"{endpoint['name']}/{arm['arm']}", arm["serving"] == version)
        for endpoint in answer.json()["items"]
        for arm in endpoint["arms"]
        if arm["version"] == version
    ]
