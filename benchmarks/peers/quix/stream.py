"""Quix Streams: a stateful `apply` by card, then by terminal, from librdkafka's mock broker, filled beforehand.

Its native `sliding_window` covers one window at a time and slows down with history. Measured from the first event that
the application sees to the last commit.

Usage: stream.py EVENTS MODEL OUTPUT
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from quixstreams import Application
from quixstreams.models.topics import TopicConfig
from quixstreams.models.topics.admin import TopicAdmin
from quixstreams.sinks import BatchingSink
from stream_work import BATCH, WINDOWS_US, Decisions, Model, report

events, model_path, output = sys.argv[1:]
model, decisions = Model(model_path), Decisions(output)
clock = {}


def inspect_topics(self, names, timeout=30):
    """Describe topics without the request for their configuration, which the mock broker does not know."""
    self.list_topics(timeout=timeout)
    settings = {"retention.ms": "604800000", "retention.bytes": "-1", "cleanup.policy": "delete"}
    return {
        name: TopicConfig(num_partitions=4, replication_factor=1, extra_config=settings)
        for name in names
        if self.admin_client.list_topics(name, timeout=timeout)
    }


def roll(event, state):
    """Append the six features of one entity; one list of rows, a start and a sum for each window."""
    kept = state.get("windows") or {"rows": [], "starts": [0, 0, 0], "sums": [0.0, 0.0, 0.0]}
    rows, starts, sums = kept["rows"], kept["starts"], kept["sums"]
    rows.append([event["event_time"], event["amount"]])
    vector = event.setdefault("vector", [event["amount"]])
    for k, width in enumerate(WINDOWS_US):
        sums[k] += event["amount"]
        while rows[starts[k]][0] <= event["event_time"] - width:
            sums[k] -= rows[starts[k]][1]
            starts[k] += 1
        count = len(rows) - starts[k]
        vector += [count, sums[k] / count]
    if starts[2]:
        kept["rows"], kept["starts"] = rows[starts[2] :], [start - starts[2] for start in starts]
    state.set("windows", kept)
    return event


class Sink(BatchingSink):
    """Scores and commits in batches of 1,000."""

    def write(self, batch):
        for chunk in batch.iter_chunks(n=BATCH):
            found = [item.value for item in chunk]
            vectors = [event["vector"] for event in found]
            decisions.write([event["event_id"] for event in found], model.score(vectors), vectors)
        clock["last"] = time.perf_counter()


def see(event):
    """Start the clock at the first event."""
    clock.setdefault("first", time.perf_counter())
    return event


TopicAdmin.inspect_topics = inspect_topics
feeder = subprocess.Popen(
    [sys.executable, Path(__file__).with_name("feeder.py"), events],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)
with feeder, tempfile.TemporaryDirectory() as folder:
    application = Application(
        feeder.stdout.readline().strip(),
        consumer_group="benchmark",
        auto_offset_reset="earliest",
        commit_every=4_000,
        use_changelog_topics=False,
        state_dir=folder,
        loglevel="WARNING",
    )
    stream = application.dataframe(application.topic("payments", value_deserializer="json")).apply(see)
    stream = stream.apply(roll, stateful=True).group_by("terminal_id").apply(roll, stateful=True)
    stream.sink(Sink())
    application.run(timeout=6)
    feeder.stdin.close()
report(time.perf_counter() - (clock["last"] - clock["first"]), decisions.rows)
