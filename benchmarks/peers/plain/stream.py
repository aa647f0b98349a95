"""Plain Python: a dict of deques with running sums; no log, no duplicate check, no recovery.

Usage: stream.py EVENTS MODEL OUTPUT batch|one
"""

import json
import pathlib
import sys
import time

from stream_work import BATCH, Decisions, Model, new_windows, report, update

events, model_path, output, mode = sys.argv[1:]
model, decisions = Model(model_path), Decisions(output)
cards: dict[str, list] = {}
terminals: dict[str, list] = {}
ids: list[str] = []
vectors: list[list[float]] = []
scores: list[float] = []


def flush() -> None:
    """Score and commit what has gathered."""
    decisions.write(ids, scores if mode == "one" else model.score(vectors), vectors)
    ids.clear()
    vectors.clear()
    scores.clear()


started = time.perf_counter()
with pathlib.Path(events).open(encoding="utf-8") as lines:
    for line in lines:
        event = json.loads(line)
        event_time, amount = event["event_time"], event["amount"]
        card, terminal = event["card_id"], event["terminal_id"]
        if card not in cards:
            cards[card] = new_windows()
        if terminal not in terminals:
            terminals[terminal] = new_windows()
        vector = [amount]
        update(cards[card], event_time, amount, vector)
        update(terminals[terminal], event_time, amount, vector)
        ids.append(event["event_id"])
        vectors.append(vector)
        if mode == "one":
            scores += model.score([vector])
        if len(ids) == BATCH:
            flush()
if ids:
    flush()
report(started, decisions.rows)
