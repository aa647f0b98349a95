"""`python -m examples.crypto`: minute bars, a run over them, three folds of a walk forward, each against the naive forecast."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples.project_run import begin, figures, penstock
from penstock.cli.output import print_table

from .market import write

HERE = Path(__file__).parent
FOLDS = (1, 2, 3)
TRAIN_MINUTES, GAP_MINUTES, TEST_MINUTES = 4 * 1440, 60, 1440


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example, from nothing."""
    parser = argparse.ArgumentParser(prog="python -m examples.crypto", description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE, help="keep data, state and reports there")
    folder = parser.parse_args(arguments).folder.resolve()
    begin(HERE, folder)
    moves = write(folder / "data")
    print(f"{len(moves['minute']):,} minute bars of three coins, simulated, with what came after.")
    penstock(folder, "run")
    for number in FOLDS:
        penstock(folder, "train", f"fold_{number}")
    compare(folder, moves)
    return 0


def compare(folder: Path, moves: dict[str, np.ndarray]) -> list[tuple[float, float]]:
    """RMSE of the naive forecast, that the price stays, and of the model, fold by fold."""
    found, rows = [], []
    for number in FOLDS:
        naive, report = rmse_of_staying(moves, number), figures(folder, f"fold_{number}")
        found.append((naive, report["rmse"]))
        gain = 1 - (report["rmse"] / naive) ** 2
        rows.append((f"fold {number}", f"{naive:.2f}", f"{report['rmse']:.2f}", f"{gain:.1%}"))
    print()
    head: Any = ("test day", "price stays, RMSE bp", "model, RMSE bp", "of the variance")
    print_table(rows, head=head, right=(1, 2, 3))
    return found


def rmse_of_staying(moves: dict[str, np.ndarray], number: int) -> float:
    """What predicting no move at all comes to in the test day of a fold."""
    begin = (number - 1) * 1440 + TRAIN_MINUTES + GAP_MINUTES
    test = (moves["minute"] >= begin) & (moves["minute"] < begin + TEST_MINUTES)
    return float(np.sqrt(np.mean(moves["move_bp"][test] ** 2)))


if __name__ == "__main__":
    sys.exit(main())
