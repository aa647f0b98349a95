"""The stream's input: card payments as NDJSON and a model for them, made once and shared by all contestants.

5,000 cards, 10,000 terminals and 10,000 payments a day, as many days as the number of events asks for: windows of 30
days are full after the first 300,000 events, whichever prefix a contestant is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.process import WORK

CARDS, TERMINALS, PER_DAY = 5_000, 10_000, 10_000
START_US = 1_700_000_000_000_000
DAY_US = 86_400_000_000
SEED = 7


def events_file(events: int) -> Path:
    """The first events of the stream, one JSON object a line: event_id, card_id, terminal_id, event_time (µs), amount.

    Times increase strictly, so that every contestant defines the same features.
    """
    path = WORK / f"events-{events}.ndjson"
    if not path.is_file():
        WORK.mkdir(parents=True, exist_ok=True)
        _write(path, events)
    return path


def prefix_file(whole: Path, events: int) -> Path:
    """The first events of a longer file."""
    path = WORK / f"{whole.stem}-first-{events}.ndjson"
    if not path.is_file():
        with whole.open(encoding="utf-8") as source:
            _replace(path, islice(source, events))
    return path


def model_file() -> Path:
    """XGBoost, 100 trees of depth 6, on vectors shaped like the stream's 13 features."""
    path = WORK / "model.json"
    if not path.is_file():
        WORK.mkdir(parents=True, exist_ok=True)
        _train(path)
    return path


def _write(path: Path, events: int) -> None:
    random = np.random.default_rng(SEED)
    gaps = random.exponential(DAY_US / PER_DAY, events).astype(np.int64) + 1
    times = START_US + np.cumsum(gaps)
    cards = random.integers(0, CARDS, events)
    terminals = random.integers(0, TERMINALS, events)
    amounts = np.round(random.gamma(2.0, 30.0, events), 2)
    rows = zip(times.tolist(), cards.tolist(), terminals.tolist(), amounts.tolist(), strict=True)
    _replace(
        path,
        (
            f'{{"event_id":"e{i:08d}","card_id":"c{card:04d}","terminal_id":"t{terminal:05d}",'
            f'"event_time":{time},"amount":{amount}}}\n'
            for i, (time, card, terminal, amount) in enumerate(rows)
        ),
    )


def _replace(path: Path, lines: Iterable[str]) -> None:
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    unfinished.replace(path)


def _train(path: Path) -> None:
    import xgboost as xgb

    random = np.random.default_rng(1)
    vectors = random.gamma(2.0, 30.0, (20_000, 13)).astype("f4")
    for column, mean_count in zip(range(1, 13, 2), (2, 14, 60, 1, 7, 30), strict=True):
        vectors[:, column] = random.poisson(mean_count, 20_000) + 1
    risk = 1 / (1 + np.exp(-(vectors[:, 0] - 60) / 40 - random.normal(0, 1, 20_000)))
    labels = (random.random(20_000) < risk).astype(int)
    settings = {"objective": "binary:logistic", "max_depth": 6, "nthread": 1, "tree_method": "hist"}
    xgb.train(settings, xgb.DMatrix(vectors, labels), 100).save_model(path)
