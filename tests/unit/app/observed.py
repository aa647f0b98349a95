"""A project whose every micro-batch is observed, as `penstock up` does."""

import time
from contextlib import contextmanager

from penstock.app.observing import Observing
from tests.unit.app.shop import labels, open_project, payments


class Stub:
    """A model whose score depends on the first feature."""

    version, digest = "model:1", "0" * 64

    def __init__(self, names, version="model:1"):
        self.feature_names, self.version = names, version

    def score(self, vectors):
        import numpy as np

        return np.where(vectors[:, 0] % 2 == 1, 0.9, 0.05)


@contextmanager
def observed(folder):
    """The open project and what observes it."""
    with open_project(folder) as runtime:
        yield runtime, Observing(runtime)


def serve(runtime, version="model:1"):
    """Let a stub decide."""
    names = runtime.plan.services["features"].feature_names
    runtime.routes.serve("endpoint", Stub(names, version))


def send(runtime, observing, source, rows):
    """One micro-batch."""
    started = time.monotonic()
    decoded = runtime.engine.decode(source, rows)
    processed = runtime.process([(source, decoded)])
    observing.note(processed, started)
    processed.wait()
    return processed


def feed(runtime, observing, count, *, first=0, step=10):
    """Payments with some that are sent twice or wrong, and labels."""
    rows = payments(count, 3, first)
    for i in range(0, count, step):
        batch = rows[i : i + step]
        send(runtime, observing, "payments", [*batch, batch[0], {"id": f"x{first + i}", "shop": 1}])
        send(runtime, observing, "frauds", labels(batch, i))
    return rows
