"""Minute bars of three coins, always the same: no market, but with what makes markets hard.

The price wanders; how much changes by the hour. What is to be found is small: after a jump in the noise of trading it comes back.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

START = datetime(2026, 3, 2, tzinfo=UTC)
COINS = {"BTC": 60_000.0, "ETH": 2_500.0, "SOL": 140.0}
DAYS, HORIZON = 8, 15


def simulate(minutes: int, first: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Close and volume by minute."""
    draw = np.random.default_rng(seed)
    calm = np.exp(np.repeat(draw.normal(0, 0.5, minutes // 60 + 1), 60)[:minutes])
    value = np.cumsum(draw.standard_t(4, minutes) * 3e-4 * calm)
    noise = np.zeros(minutes)
    for i in range(1, minutes):  # what trading adds, and takes back within minutes
        noise[i] = 0.85 * noise[i - 1] + draw.normal(0, 3e-4)
    volume = np.exp(draw.normal(3, 0.4, minutes)) * calm
    return first * np.exp(value + noise), volume


def write(folder: Path, days: int = DAYS) -> dict[str, np.ndarray]:
    """Write bars.ndjson and moves.ndjson; the moves in hundredths of a percent, and the minute of each."""
    folder.mkdir(parents=True, exist_ok=True)
    minutes = days * 1440
    series = {name: simulate(minutes, first, seed) for seed, (name, first) in enumerate(COINS.items())}
    moves: list[tuple[int, float]] = []
    with (folder / "bars.ndjson").open("w") as bars, (folder / "moves.ndjson").open("w") as labels:
        for minute in range(minutes):
            at = START + timedelta(minutes=minute)
            for number, (name, (close, volume)) in enumerate(series.items()):
                key = minute * len(COINS) + number
                bar = {
                    "id": key,
                    "symbol": name,
                    "at": at.isoformat(),
                    "close": close[minute],
                    "volume": volume[minute],
                }
                bars.write(json.dumps(bar) + "\n")
                if minute + HORIZON < minutes:
                    move = 1e4 * float(np.log(close[minute + HORIZON] / close[minute]))
                    known = (at + timedelta(minutes=HORIZON)).isoformat()
                    labels.write(json.dumps({"id": key, "move_bp": move, "known_at": known}) + "\n")
                    moves.append((minute, move))
    return {"minute": np.array([m for m, _ in moves]), "move_bp": np.array([v for _, v in moves])}
