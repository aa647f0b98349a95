"""The frame around every contestant of the as-of benchmark: events and profiles in, each event with its 10 features out.

Every event is to come out once, in any order; an event without a profile has nulls. Reading the inputs, sorting and writing
the output for the check are not measured.
"""

import json
import sys
import time

import pyarrow as pa

FEATURES = [f"f{i}" for i in range(10)]


def read(path):
    """An Arrow file as a table."""
    with pa.OSFile(path) as file:
        return pa.ipc.open_file(file).read_all()


def contend(compute, *, prepare=lambda events, profiles: (events, profiles)):
    """Measure `compute(*prepare(events, profiles)) -> table` with the columns event_id and `FEATURES`."""
    events, profiles, target = sys.argv[1:]
    inputs = prepare(read(events), read(profiles))
    started, cpu_started = time.perf_counter(), time.process_time()
    joined = compute(*inputs)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    joined = joined.select(["event_id", *FEATURES]).sort_by("event_id")
    with pa.OSFile(target, "wb") as file, pa.ipc.new_file(file, joined.schema) as writer:
        writer.write_table(joined)
    print(json.dumps({"events": joined.num_rows, "seconds": seconds, "cpu_seconds": cpu_seconds}))
