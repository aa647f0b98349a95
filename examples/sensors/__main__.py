"""`python -m examples.sensors`: machines, a run over their readings, two detectors, and which faults each found."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.project_run import begin, figures, penstock
from penstock.cli.output import print_table
from penstock.core.time import to_us

from .machines import DAYS, LENGTHS, START, STEP, Fault, write

HERE = Path(__file__).parent
MODELS = ("neighbours", "trees")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example, from nothing."""
    parser = argparse.ArgumentParser(prog="python -m examples.sensors", description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE, help="keep data, state and reports there")
    folder = parser.parse_args(arguments).folder.resolve()
    begin(HERE, folder)
    faults = write(folder / "data")
    print(f"{DAYS} days of four machines, a reading each five minutes, with {len(faults)} faults, simulated.")
    penstock(folder, "run")
    for model in MODELS:
        penstock(folder, "train", model)
    compare(folder, faults)
    print(f"\nWhen which fault was, and how strange each reading: {folder}/reports/*/scores.png")
    return 0


def compare(folder: Path, faults: Sequence[Fault]) -> dict[str, Mapping[str, Any]]:
    """What each detector showed in the three weeks after the quiet one: its figures, with the share of each kind that it found."""
    found = {model: dict(figures(folder, model)) for model in MODELS}
    for report in found.values():
        report["kinds"] = {kind: _found(kind, report, faults) for kind in LENGTHS}
    print()
    rows: list[tuple[str, ...]] = []
    for model, report in found.items():
        alarm = report["alarms"][0]
        kinds = (f"{caught} of {count}" for caught, count in report["kinds"].values())
        figures_ = (f"{alarm['nab']:.1f}", f"{alarm['per_day']:.1f}", f"{report['roc_auc']:.3f}")
        rows.append((model, *figures_, *kinds))
    head = ("detector", "NAB", "alerts a day", "ROC AUC", *LENGTHS)
    print_table(rows, head=head, right=range(1, len(head)))
    return found


def _found(kind: str, report: Mapping[str, Any], faults: Sequence[Fault]) -> tuple[int, int]:
    """How many faults of a kind have an alarm, of how many."""
    highest = {one["start_us"]: one["highest"] for one in report["anomalies"]}
    ours = [to_us(START + fault.first * STEP) for fault in faults if fault.kind == kind]
    scores = [highest[start] for start in ours if start in highest]
    return sum(score >= report["alarms"][0]["threshold"] for score in scores), len(scores)


if __name__ == "__main__":
    sys.exit(main())
