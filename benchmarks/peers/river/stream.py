"""River: `feature_extraction.Agg` over `utils.TimeRolling`, one for each feature.

Usage: stream.py EVENTS MODEL OUTPUT
"""

import datetime as dt
import json
import pathlib
import sys
import time

from river import feature_extraction, stats, utils
from stream_work import BATCH, Decisions, Model, report

events, model_path, output = sys.argv[1:]
model, decisions = Model(model_path), Decisions(output)
EPOCH = dt.datetime(1970, 1, 1)
aggregates = [
    feature_extraction.Agg(on, by, utils.TimeRolling(statistic, period=dt.timedelta(days=days)))
    for by in ("card_id", "terminal_id")
    for days in (1, 7, 30)
    for on, statistic in (("one", stats.Sum), ("amount", stats.Mean))  # stats.Count cannot revert
]
ids, vectors = [], []


def flush():
    """Score and commit what has gathered."""
    decisions.write(ids, model.score(vectors), vectors)
    ids.clear()
    vectors.clear()


started = time.perf_counter()
with pathlib.Path(events).open(encoding="utf-8") as lines:
    for line in lines:
        event = json.loads(line) | {"one": 1}
        event_time = EPOCH + dt.timedelta(microseconds=event["event_time"])
        vector = [event["amount"]]
        for aggregate in aggregates:
            aggregate.learn_one(event, t=event_time)
            vector.extend(aggregate.transform_one(event).values())
        ids.append(event["event_id"])
        vectors.append(vector)
        if len(ids) == BATCH:
            flush()
if ids:
    flush()
report(started, decisions.rows)
