"""Testing a project: trials of its services on its own events, or generated ones, and the tests that its users wrote."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penstock.app.runtime import open_reader, plan_of
from penstock.app.storing import has_run
from penstock.core.errors import NotFoundError
from penstock.definitions.project import load_project
from penstock.engine.generated import generated_rows
from penstock.engine.kernel_rows import Rows
from penstock.engine.recovery import Progress, no_progress
from penstock.engine.replay import read_chunks
from penstock.engine.trials import Trial, try_service
from penstock.kernel.columns import concat
from penstock.plan.nodes import Plan

TESTS = "tests"
_GENERATED = 600
_PYTEST_NO_TESTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTests:
    """The project's own tests: whether they passed (None: there are none), and what pytest said."""

    passed: bool | None
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What came of testing a project; `rows` were tried, which `generated` says are not its own."""

    trials: tuple[Trial, ...]
    own: OwnTests
    rows: int
    generated: bool

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return self.own.passed is not False and all(trial.passed is not False for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "passed": self.passed,
            "rows": self.rows,
            "generated": self.generated,
            "trials": [asdict(trial) for trial in self.trials],
            "tests": asdict(self.own),
        }


def prove(
    root: Path,
    services: Sequence[str] = (),
    *,
    rows: int = 2000,
    arguments: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Proof:
    """Test the project in `root`.

    Parameters
    ----------
    services
        Names of services; default: all.
    rows
        How many of the newest rows of the log to try them on. Where the log is empty, events are made from the schemas.
    arguments
        For pytest.
    """
    plan = plan_of(load_project(root))
    wanted = list(services) or list(plan.services)
    for name in wanted:
        if name not in plan.services:
            raise NotFoundError(
                f"test: there is no feature service {name!r}; there are {', '.join(plan.services)}."
            )
    sample = _logged(root, plan, rows)
    generated = not sample
    if generated:
        sample = generated_rows(plan, count=min(rows, _GENERATED))
    trials: list[Trial] = []
    for i, name in enumerate(wanted):
        progress(i, len(wanted))
        trials += try_service(plan, plan.services[name], sample)
    progress(len(wanted), len(wanted))
    count = sum(len(one.positions) for one in sample.values())
    return Proof(trials=tuple(trials), own=run_own(root, arguments), rows=count, generated=generated)


def _logged(root: Path, plan: Plan, count: int) -> Mapping[str, Rows]:
    """The newest `count` rows of the log, by source; labels joined to their events."""
    if not has_run(root):
        return {}
    found: dict[str, list[Rows]] = {}
    with open_reader(root) as store:
        stop = store.next_position
        for chunk in read_chunks(store, plan, start=max(stop - count, 0), stop=stop):
            for name, rows in chunk.rows.items():
                found.setdefault(name, []).append(rows)
    return {
        name: Rows(concat([p.columns for p in parts]), np.concatenate([p.positions for p in parts]))
        for name, parts in found.items()
    }


def run_own(root: Path, arguments: Sequence[str] = ()) -> OwnTests:
    """Run the tests in the project's folder ``tests`` with pytest, in a process of their own."""
    folder = root / TESTS
    if not folder.is_dir():
        return OwnTests(passed=None, output=f"there is no folder {TESTS}/")
    if importlib.util.find_spec("pytest") is None:
        return OwnTests(passed=False, output="pytest is not installed. Run: pip install 'penstock[test]'")
    command = [sys.executable, "-m", "pytest", "--rootdir", str(root), "-q", *arguments, str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603 - pytest, of this environment
    if done.returncode == _PYTEST_NO_TESTS:
        return OwnTests(passed=None, output=f"{TESTS}/ holds no tests")
    return OwnTests(passed=done.returncode == 0, output=(done.stdout + done.stderr).strip())
