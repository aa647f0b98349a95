"""Pathway in streaming mode: a `stateful_many` reducer by card, then by terminal, a commit every 1,000 lines.

Its native `interval_join` is several times slower on this work and keeps no order.

Usage: stream.py EVENTS MODEL OUTPUT
"""

import json
import pathlib
import sys
import time
from bisect import bisect_right

import pathway as pw
from stream_work import BATCH, WINDOWS_US, Decisions, Model, report

events, model_path, output = sys.argv[1:]
model, decisions = Model(model_path), Decisions(output)
waiting, retracted = [], 0
State = tuple[list[str], list[int], list[float]]


class Line(pw.Schema):
    """An event as it is read."""

    line: str


class Lines(pw.io.python.ConnectorSubject):
    """The file, committed in batches."""

    def run(self):
        with pathlib.Path(events).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                self.next(line=line)
                if number % BATCH == 0:
                    self.commit()


@pw.reducers.stateful_many
def roll(state: State | None, rows: list) -> State:
    """Windows of one key: the events just seen with their vectors, then times and amounts kept."""
    times, amounts = (list(state[1]), list(state[2])) if state else ([], [])
    batch = sorted(
        (json.loads(row[0]) for row, diff in rows if diff > 0), key=lambda event: event["event_time"]
    )
    for event in batch:
        times.append(event["event_time"])
        amounts.append(event["amount"])
        vector = event.setdefault("vector", [event["amount"]])
        for width in WINDOWS_US:
            first = bisect_right(times, times[-1] - width)
            count = len(times) - first
            vector += [count, sum(amounts[first:]) / count]
        del times[:first], amounts[:first]
    return [json.dumps(event) for event in batch], times, amounts


def windows_by(table, field):
    """Append the six features of one entity to each event's vector."""
    key = pw.apply_with_type(lambda line: json.loads(line)[field], str, table.line)
    state = table.select(table.line, key=key).groupby(pw.this.key).reduce(state=roll(pw.this.line))
    lines = pw.apply_with_type(lambda kept: list(kept[0]), list[str], pw.this.state)
    return state.select(line=lines).flatten(pw.this.line)


@pw.udf(deterministic=True, max_batch_size=BATCH)
def score(lines: list[str]) -> list[float]:
    """The scores of a batch."""
    return model.score([json.loads(line)["vector"] for line in lines])


def flush():
    """Commit what has gathered."""
    if waiting:
        decisions.write(*map(list, zip(*waiting, strict=True)))
        waiting.clear()


def on_change(key, row, time, is_addition):
    """Keep additions; a reducer's older batch is retracted when the next one replaces it."""
    global retracted
    retracted += not is_addition
    if is_addition:
        event = json.loads(row["line"])
        waiting.append((event["event_id"], row["score"], event["vector"]))
        if len(waiting) == BATCH:
            flush()


table = pw.io.python.read(Lines(), schema=Line, autocommit_duration_ms=None)
scored = windows_by(windows_by(table, "card_id"), "terminal_id")
scored = scored.select(pw.this.line, score=score(pw.this.line))
pw.io.subscribe(scored, on_change, on_end=flush)

started = time.perf_counter()
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
report(started, decisions.rows, retracted=retracted)
