"""Plain Python, one event at a time: from a line of JSON to its score, without a commit.

Usage: latency.py EVENTS MODEL OUTPUT (the output is not written)
"""

import gc
import json
import pathlib
import sys
import time

from stream_work import Model, latency_report, new_windows, update

events, model_path, _ = sys.argv[1:]
model = Model(model_path)
cards: dict[str, list] = {}
terminals: dict[str, list] = {}


def decide(line: str) -> float:
    """The score of one event, which enters the windows."""
    event = json.loads(line)
    event_time, amount = event["event_time"], event["amount"]
    vector = [amount]
    for table, key in ((cards, event["card_id"]), (terminals, event["terminal_id"])):
        if key not in table:
            table[key] = new_windows()
        update(table[key], event_time, amount, vector)
    return model.score([vector])[0]


nanoseconds = []
gc.freeze()
with pathlib.Path(events).open(encoding="utf-8") as lines:
    for line in lines:
        started = time.perf_counter_ns()
        decide(line)
        nanoseconds.append(time.perf_counter_ns() - started)
latency_report(nanoseconds)
