"""The work that every contestant of the stream benchmark does around its own engine; runs in the peers' environments."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import deque
from pathlib import Path

import numpy as np
import xgboost as xgb

DAY_US = 86_400_000_000
WINDOWS_US = (DAY_US, 7 * DAY_US, 30 * DAY_US)
VECTOR = 13  # amount, then count and mean over 1, 7 and 30 days by card and by terminal
BATCH = 1_000


def new_windows() -> list[list]:
    """State of one key: for each window its length, its rows and their running sum."""
    return [[width, deque(), 0.0] for width in WINDOWS_US]


def update(windows: list[list], event_time: int, amount: float, vector: list[float]) -> None:
    """Add a row to a key's windows and append count and mean of each to the vector."""
    for window in windows:
        rows = window[1]
        rows.append((event_time, amount))
        window[2] += amount
        edge = event_time - window[0]
        while rows[0][0] <= edge:
            window[2] -= rows.popleft()[1]
        vector.append(len(rows))
        vector.append(window[2] / len(rows))


class Model:
    """XGBoost on one thread."""

    def __init__(self, path: str) -> None:
        self._booster = xgb.Booster(model_file=path)
        self._booster.set_param({"nthread": 1})

    def score(self, vectors: list[list[float]]) -> list[float]:
        """The scores of a batch of vectors."""
        return self._booster.inplace_predict(np.array(vectors, dtype="f4")).tolist()


class Decisions:
    """One SQLite table (WAL, synchronous NORMAL), written in one transaction a batch."""

    def __init__(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        columns = ", ".join(f"f{i} real" for i in range(VECTOR))
        self._db.execute(f"create table decisions (event_id text, score real, {columns})")
        self._insert = f"insert into decisions values ({', '.join('?' * (VECTOR + 2))})"
        self.rows = 0

    def write(self, ids: list[str], scores: list[float], vectors: list[list[float]]) -> None:
        """Commit a batch."""
        self._db.execute("begin")
        self._db.executemany(self._insert, [(i, s, *v) for i, s, v in zip(ids, scores, vectors, strict=True)])
        self._db.execute("commit")
        self.rows += len(ids)


def report(started: float, events: int, **more: object) -> None:
    """The last line of a contestant: events and seconds from the first byte read to the last commit."""
    print(json.dumps({"events": events, "seconds": time.perf_counter() - started, **more}), flush=True)


def latency_report(nanoseconds: list[int]) -> None:
    """The last line of a contestant in the latency benchmark; the first half of the events is warm-up."""
    measured = np.array(nanoseconds[len(nanoseconds) // 2 :]) / 1_000
    p50, p99, p999 = np.percentile(measured, (50, 99, 99.9)).tolist()
    print(json.dumps({"events": len(measured), "p50_us": p50, "p99_us": p99, "p999_us": p999}), flush=True)
