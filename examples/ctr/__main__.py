"""`python -m examples.ctr`: data, a run over them, two models, and how they compare with what is possible."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from sklearn.metrics import average_precision_score, roc_auc_score

from examples.project_run import begin, figures, penstock
from penstock.cli.output import print_table

from .world import simulate, write

HERE = Path(__file__).parent
COUNT = 120_000
MODELS = ("logistic", "boosted", "online")


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
    compare(folder, options.count)
    return 0


def compare(folder: Path, count: int) -> dict[str, tuple[float, float]]:
    """ROC AUC and average precision of the last day: of the models, and of the probabilities that the clicks were drawn with."""
    world = simulate(count)
    test = world["seconds"] >= world["seconds"].max() - timedelta(days=1).total_seconds()
    truth, chance = world["clicked"][test], world["chance"][test]
    found = {"no model": (0.5, float(truth.mean()))}
    for model in MODELS:
        report = figures(folder, model)
        found[model] = report["roc_auc"], report["average_precision"]
    found["the world itself"] = roc_auc_score(truth, chance), average_precision_score(truth, chance)
    print()
    rows = [(name, f"{auc:.3f}", f"{precision:.3f}") for name, (auc, precision) in found.items()]
    print_table(rows, head=("test day", "ROC AUC", "average precision"), right=(1, 2))
    return found


if __name__ == "__main__":
    sys.exit(main())
