"""The frame around every contestant of the wide benchmark: an Arrow table in, 100 window features in an Arrow table out.

Rows stand in time order and come out in the same order. Reading the input and writing every `TENTH` row for the check are not
measured; everything between the two tables in memory is, and the peak of memory is read before anything is written.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

MINUTES = {"10m": 10, "1h": 60, "6h": 360, "1d": 1_440, "7d": 10_080, "30d": 43_200, "90d": 129_600}
ENTITIES = {"card": "terminal_id", "terminal": "card_id"}  # and whose number of different ones is asked for
FUNCTIONS = ("count", "sum", "mean", "min", "max", "std")
PREVIOUS = "30d"  # how far back the amount of the payment before this one is looked for
TENTH = 10

COMMON = [f"{entity}_{f}_{w}" for entity in ENTITIES for w in MINUTES for f in FUNCTIONS] + [
    f"{entity}_previous" for entity in ENTITIES
]
ALL = COMMON + [f"{entity}_distinct_{w}" for entity in ENTITIES for w in MINUTES]


def contend(compute):
    """Measure `compute(table, names) -> table` on the file named first; what it gives for the check goes to the second.

    The third argument says which features: ``common`` or ``all``.
    """
    source, target, which = sys.argv[1:]
    names = {"common": COMMON, "all": ALL}[which]
    with pa.OSFile(source) as file:
        table = pa.ipc.open_file(file).read_all()
    started, cpu_started = time.perf_counter(), time.process_time()
    features = compute(table, names)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak_mb = _peak_mb()
    sample = features.select(names).take(pa.array(np.arange(0, features.num_rows, TENTH)))
    with pa.OSFile(target, "wb") as file, pa.ipc.new_file(file, sample.schema) as writer:
        writer.write_table(sample)
    report = {"events": features.num_rows, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb}
    print(json.dumps(report))


def _peak_mb():
    """The largest resident set of this process so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
