"""A backtest over logged decisions: the same model again, and other features recomputed from the log.

`python -m benchmarks.backtest EVENTS MODEL FOLDER` is the run, in a child process.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import Contestant, hold
from benchmarks.events import DAY_US, events_file, model_file
from benchmarks.machine import versions_of
from benchmarks.process import WORK, peak_mb
from benchmarks.project import SOURCE, open_payments
from benchmarks.result import Bar, Figure, Result

WHAT = (
    "Decisions on the stream benchmark's card payments, each with its label, decided again: from opening the store to the comparison of alerts, "
    "precision, recall, average precision and money. Rescoring reads the logged vectors (13 features) and scores them with the model that decided "
    "(XGBoost, 100 trees, depth 6, one thread): every decision must come out as it was, to the last bit. Recomputing does the same under other "
    "definitions (30 days became 20), whose features a replay of the log computes."
)
EVENTS, BATCH_ROWS, REPETITIONS = 1_000_000, 4_096, 3
BAR = 200_000
NAME = "Penstock"
LABELS_AFTER_US = 2 * DAY_US


def run_penstock(events: Path, model: Path, folder: Path) -> dict[str, Any]:
    """Feed, then measure: seconds by kind of backtest, and how many decisions came out differently."""
    from penstock.app.backtesting import Asked, backtest

    decided = _feed(events, model, folder)
    other = _with_other_features(folder, model)
    found: dict[str, Any] = {"events": decided, "rescored": [], "recomputed": []}
    differing = 0

    def compare(_one: object, block: Any, again: Any) -> None:
        nonlocal differing
        before = block.decisions
        differing += int((before.taken != again.taken).sum())
        differing += int((before.scores.view(np.int64) != again.scores.view(np.int64)).sum())

    for _ in range(REPETITIONS):
        begun = time.perf_counter()
        result = backtest(folder, "checkout", Asked(models=("fraud:1",)))
        found["rescored"].append(time.perf_counter() - begun)
        if result.sides[0].decided != decided or result.sides[0].cost is None:
            sys.exit(f"{result.sides[0].decided} of {decided} decisions were read")
    found["peak_mb"] = peak_mb()
    backtest(folder, "checkout", Asked(models=("fraud:1",)), watch=compare)
    found["differing"] = differing
    begun = time.perf_counter()
    result = backtest(folder, "checkout", Asked(definitions=other))
    found["recomputed"].append(time.perf_counter() - begun)
    if result.recomputed != decided:
        sys.exit(f"features of {result.recomputed} of {decided} events were recomputed")
    return found


def _feed(events: Path, model: Path, folder: Path) -> int:
    """A project whose log holds the events with decisions, and a label of each; how many they are."""
    runtime = open_payments(folder, model=model, durability="process")
    _edit(
        folder, 'actions={"block": 0.9, "review": 0.5}', 'actions={"block": 0.9, "review": 0.5}, costs=COSTS'
    )
    _edit(folder, "\nAMOUNT =", '\nCOSTS = CostMatrix(false_positive=5.0, false_negative="amount")\nAMOUNT =')
    _edit(folder, "    Attribute,\n", "    Attribute,\n    CostMatrix,\n")
    decided = 0
    random = np.random.default_rng(2)
    with events.open("rb") as file:
        while lines := file.readlines(BATCH_ROWS * 108):
            runtime.process([(SOURCE, runtime.engine.decode(SOURCE, b"".join(lines)))])
            runtime.process([("chargebacks", runtime.engine.decode("chargebacks", _labels(lines, random)))])
            decided += len(lines)
    runtime.engine.flush()
    runtime.close(snapshot=False)
    return decided


def _labels(lines: list[bytes], random: np.random.Generator) -> bytes:
    found = []
    for line, draw in zip(lines, random.random(len(lines)).tolist(), strict=True):
        event = json.loads(line)
        known = event["event_time"] + LABELS_AFTER_US
        fraud = "true" if draw < 0.01 else "false"
        found.append(f'{{"event_id":"{event["event_id"]}","is_fraud":{fraud},"reported_at":{known}}}')
    return "\n".join(found).encode()


def _with_other_features(folder: Path, model: Path) -> Path:
    """Another project with the same events and another window, and its own version of the model."""
    from benchmarks.project import _promote

    other = folder.with_suffix(".other")
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    for file in ("penstock.toml", "definitions.py"):
        shutil.copy(folder / file, other)
    _edit(other, "(1, 7, 30)", "(1, 7, 20)")
    _promote(other, model)
    return other


def _edit(folder: Path, before: str, after: str) -> None:
    path = folder / "definitions.py"
    text = path.read_text(encoding="utf-8")
    if text.count(before) != 1:
        sys.exit(f"{path} does not hold {before!r} once")
    path.write_text(text.replace(before, after), encoding="utf-8")


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """One process; the model that decided three times, other features once."""
    count = max(int(EVENTS * scale), 20_000)

    def command() -> list[str | Path]:
        paths = [events_file(count), model_file(), WORK / "backtest.project"]
        return [sys.executable, "-m", "benchmarks.backtest", *paths]

    contest = hold([Contestant(NAME, command, repetitions=1)], say)
    runs = contest.runs.get(NAME, [])
    report: dict[str, Any] = runs[0].report if runs else {}
    rates = (
        {kind: [report["events"] / s for s in report[kind]] for kind in ("rescored", "recomputed")}
        if report
        else {}
    )
    figures = tuple(
        Figure.median(what, "events/s", rates[kind], events=report["events"], peak_mb=report["peak_mb"])
        for kind, what in (
            ("rescored", "logged vectors scored again"),
            ("recomputed", "other features, recomputed"),
        )
        if rates
    )
    return Result(
        benchmark="backtest",
        what=WHAT,
        figures=figures,
        bars=(
            Bar("logged vectors scored again", figures[0].value if figures else None, BAR, "events/s"),
            Bar("decisions that came out differently", report.get("differing"), 0, at_most=True),
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "numpy", "xgboost-cpu"),
    )


if __name__ == "__main__":
    print(json.dumps(run_penstock(*map(Path, sys.argv[1:4]))))
