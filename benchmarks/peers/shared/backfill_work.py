"""The frame around every contestant of the backfill benchmark: an Arrow table in, the 12 features in an Arrow table out.

Rows stand in time order and come out in the same order. Reading the input and writing the output for the check are not
measured; everything between the two tables in memory is.
"""

import json
import sys
import time

import pyarrow as pa

DAYS = (1, 7, 30)
DELAY_DAYS = 7
FEATURES = [
    *(f"customer_{function}_{days}d" for days in DAYS for function in ("count", "mean")),
    *(f"terminal_{function}_{days}d" for days in DAYS for function in ("count", "share")),
]


def contend(compute):
    """Measure `compute(table) -> table` on the file named first, write its output to the file named second."""
    source, target = sys.argv[1:]
    with pa.OSFile(source) as file:
        table = pa.ipc.open_file(file).read_all()
    started, cpu_started = time.perf_counter(), time.process_time()
    features = compute(table)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    features = features.select(FEATURES)
    with pa.OSFile(target, "wb") as file, pa.ipc.new_file(file, features.schema) as writer:
        writer.write_table(features)
    print(json.dumps({"events": features.num_rows, "seconds": seconds, "cpu_seconds": cpu_seconds}))
