"""A log as large as is asked for, written straight into a store; and a child process that streams features from it.

``python -m tests.unit.engine.large_log FOLDER AS_OF OUT`` prints rows and the most memory that it held, in bytes.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import numpy as np

from penstock import (
    Aggregate,
    Entity,
    FeatureService,
    LabelSource,
    PushConfig,
    StreamFeatureView,
    StreamSource,
)
from penstock.core.records import Commit, LabelRecords, LogBatch
from penstock.engine.asked_events import features_over_log
from penstock.engine.feature_stream import logged_stream
from penstock.kernel.columns import Columns, Numeric
from penstock.plan.compile import compile_plan
from penstock.stores.reader import ProjectReader
from penstock.stores.spill import SpillFile
from penstock.stores.sqlite import ProjectStore
from penstock.types import Bool, Field, Float64, Int64, Timestamp

START = 1_700_000_000_000_000
COMMIT_ROWS = 8192
KEYS = 2_000
TICK_US = 100_000  # many events share a time, with labels among them
SECOND = 1_000_000

card = Entity("card", [Field("card_id", Int64)])
shop = Entity("shop", [Field("shop_id", Int64)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[
        Field("id", Int64),
        Field("card_id", Int64),
        Field("shop_id", Int64),
        Field("time", Timestamp),
        Field("amount", Float64),
    ],
    event_id_field="id",
    allowed_lateness=timedelta(minutes=1),
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known")
ASKED = {"card_id": 1, "shop_id": 1, "time": START + 400 * SECOND, "amount": 0.5}
WINDOWS = (timedelta(seconds=10), timedelta(minutes=1))
spending = StreamFeatureView(
    "spending",
    source=payments,
    entities=[card],
    features=[
        Aggregate(Field("amount", Float64), f, time_window=w)
        for w in WINDOWS
        for f in ("count", "sum", "max")
    ],
)
risk = StreamFeatureView(
    "risk",
    source=frauds,
    entities=[shop],
    features=[Aggregate(Field("fraud", Bool), "mean", time_window=WINDOWS[1])],
)
features = FeatureService("features", features=[spending, risk])
plan = compile_plan([(features, payments)])


def write(folder: Path, count: int, *, disorder_s: int = 300, seed: int = 0) -> Path:
    """A store with `count` events, a thousand a second, up to `disorder_s` late, one in a hundred labelled early."""
    path = folder / "penstock.db"
    chance = np.random.default_rng(seed)
    with ProjectStore.open(path, durability="process") as store:
        for first in range(0, count, COMMIT_ROWS):
            rows = min(COMMIT_ROWS, count - first)
            positions = np.arange(first, first + rows)
            late = chance.integers(0, disorder_s * SECOND, rows) * (chance.random(rows) < 0.1)
            times = (START + positions * 1000 - late) // TICK_US * TICK_US
            columns = {
                "id": positions,
                "card_id": chance.integers(0, KEYS, rows),
                "shop_id": chance.integers(0, 500, rows),
                "time": times,
                "amount": chance.random(rows),
            }
            labelled = positions[chance.random(rows) < 0.01]
            labels = LabelRecords(
                event_positions=labelled,
                label_positions=labelled,
                values=(chance.random(len(labelled)) < 0.5).astype(np.float64),
                known_at_us=times[labelled - first] + 5 * SECOND,
            )
            payload = Columns(rows, {name: Numeric(values) for name, values in columns.items()}).to_bytes()
            batch = LogBatch("payments", positions, ingest_time_us=START, payload=payload)
            store.commit(Commit(log=[batch], labels=labels))
            store.tidy()
    return path


def most_memory() -> int:
    """The most memory that this process held, in bytes; `getrusage` would also count its parent, which forked it."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Stream the features of a whole log, or of a thousand given events, into a file."""
    folder, as_of, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    with ProjectReader.open_reader(folder / "penstock.db") as store:
        stream = logged_stream(
            store,
            plan,
            plan.services["features"],
            as_of="corrected" if as_of == "given" else as_of,
            shelves=lambda: SpillFile(folder / "tmp", memory_bytes=1 << 20),
        )
        if as_of == "given":
            asked = [{"id": position} | ASKED for position in range(-500, 500)]
            with SpillFile(folder / "tmp", memory_bytes=1 << 20) as shelf:
                stream = features_over_log(store, features.features, payments, asked, shelf=shelf)
        rows = stream.to_parquet(out)
    sys.stdout.write(f"{rows} {most_memory()}\n")


if __name__ == "__main__":
    main()
