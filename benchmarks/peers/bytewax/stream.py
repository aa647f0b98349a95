"""Bytewax: `stateful_batch`, each batch put into time order; the obvious `stateful_map` gives wrong features.

Usage: stream.py EVENTS MODEL OUTPUT
"""

import copy
import json
import sys
import time

import bytewax.operators as op
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from stream_work import Decisions, Model, new_windows, report, update

events, model_path, output = sys.argv[1:]
model, decisions = Model(model_path), Decisions(output)


class Roll(op.StatefulBatchLogic):
    """The windows of one key."""

    def __init__(self, windows):
        self.windows = windows or new_windows()

    def on_batch(self, values):
        values.sort(key=lambda value: value[0]["event_time"])
        for event, vector in values:
            update(self.windows, event["event_time"], event["amount"], vector)
        return values, False

    def snapshot(self):
        return copy.deepcopy(self.windows)


class Sink(DynamicSink, StatelessSinkPartition):
    """Commits what one step of the dataflow hands over."""

    def build(self, *_):
        return self

    def write_batch(self, items):
        decisions.write(*map(list, zip(*items, strict=True)))


def parse(line):
    """The event and the beginning of its vector."""
    event = json.loads(line)
    return event, [event["amount"]]


def score(batch):
    """Id, score and vector of each event."""
    vectors = [vector for _, vector in batch]
    return [
        (event["event_id"], s, v)
        for (event, _), s, v in zip(batch, model.score(vectors), vectors, strict=True)
    ]


flow = Dataflow("fraud")
stream = op.map("parse", op.input("in", flow, FileSource(events)), parse)
stream = op.key_on("card", stream, lambda value: value[0]["card_id"])
stream = op.key_rm("card_done", op.stateful_batch("card_windows", stream, Roll))
stream = op.key_on("terminal", stream, lambda value: value[0]["terminal_id"])
stream = op.key_rm("terminal_done", op.stateful_batch("terminal_windows", stream, Roll))
op.output("out", op.flat_map_batch("score", stream, score), Sink())

started = time.perf_counter()
run_main(flow)
report(started, decisions.rows)
