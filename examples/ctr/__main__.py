"""`python -m examples.ctr`: data, a run over them, three models, and how they compare with what is possible."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.project_run import begin, penstock
from penstock.cli.output import print_table

from .comparison import MODELS, WORLD, compared, picture
from .world import write

HERE = Path(__file__).parent
COUNT = 120_000
FIGURES = {"roc_auc": 3, "average_precision": 3, "log_loss": 4}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example, from nothing."""
    parser = argparse.ArgumentParser(prog="python -m examples.ctr", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help=f"impressions (default: {COUNT:,})")
    parser.add_argument("--folder", type=Path, default=HERE, help="keep data, state and reports there")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    begin(HERE, folder)
    print(f"{options.count:,} impressions and their clicks, simulated.")
    write(folder / "data", options.count)
    penstock(folder, "run")
    for model in MODELS:
        penstock(folder, "train", model)
    found = compared(folder, options.count)
    show(found)
    drawn = folder / "reports" / "comparison.png"
    drawn.write_bytes(picture(found))
    print(f"\nHow often what they rank highest was clicked: {drawn}")
    return 0


def show(found: Mapping[str, Mapping[str, Any]]) -> None:
    """The table."""
    base = found[WORLD]["base_rate"]
    rows = [("no model", "0.500", f"{base:.3f}", f"{log_loss(base):.4f}")]
    for name, report in found.items():
        rows.append((name, *(f"{report[key]:.{digits}f}" for key, digits in FIGURES.items())))
    print()
    print_table(rows, head=("last day", "ROC AUC", "average precision", "log loss"), right=(1, 2, 3))


def log_loss(rate: float) -> float:
    """Of whoever gives every impression the chance that holds on average."""
    return -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


if __name__ == "__main__":
    sys.exit(main())
