"""Runs contestants in turns, so that a busy minute of the machine hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.process import ContestantError, Run, run_contestant
from benchmarks.result import Figure


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who takes part, and with how much of the work.

    `command` is called when the contestant's turn comes (it may install the contestant's environment).
    """

    name: str
    command: Callable[[], Sequence[str | Path]]
    events: int | None = None
    repetitions: int = 1
    timeout_s: float = 900
    environment: dict[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(slots=True)
class Contest:
    """The runs of each contestant so far, and why some have none."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def figures(
        self, unit: str, value: Callable[[Run], float], contestants: Sequence[Contestant]
    ) -> list[Figure]:
        """The median figure of each contestant that ran."""
        return [
            Figure.median(
                contestant.name,
                unit,
                [value(run) for run in self.runs[contestant.name]],
                events=contestant.events,
                peak_mb=round(max(peak_mb(run) for run in self.runs[contestant.name]), 1),
                note=contestant.note,
            )
            for contestant in contestants
            if contestant.name in self.runs
        ]


def hold(contestants: Sequence[Contestant], say: Callable[[str], None] = print) -> Contest:
    """Run every contestant's repetitions, interleaved; one that fails is out, with its reason kept."""
    contest = Contest()
    for turn in range(max(contestant.repetitions for contestant in contestants)):
        for contestant in contestants:
            if turn < contestant.repetitions and contestant.name not in contest.failed:
                _take_turn(contest, contestant, say)
    return contest


def _take_turn(contest: Contest, contestant: Contestant, say: Callable[[str], None]) -> None:
    try:
        run = run_contestant(
            contestant.command(), timeout_s=contestant.timeout_s, environment=contestant.environment
        )
    except ContestantError as error:
        contest.failed[contestant.name] = str(error)
        contest.runs.pop(contestant.name, None)
        say(f"  {contestant.name}: failed: {error}")
        return
    contest.runs.setdefault(contestant.name, []).append(run)
    say(f"  {contestant.name}: {run.wall_s:.1f} s, {peak_mb(run):.0f} MB")


def cpu_of(runs: Sequence[Run]) -> str:
    """The processor time that a contestant's turns took, as a note: on a busy machine it says more than the wall clock."""
    return f"{median(run.report['cpu_seconds'] for run in runs):.2f} s of CPU"


def peak_mb(run: Run) -> float:
    """Peak memory: the contestant's own reading before it exported for the check, else the one from outside."""
    return float(run.report.get("peak_mb", run.peak_mb))
