"""A process to be killed: takes payments in, and tells of those that are blocked.

As `killed_writer`, it forks a life for each line on stdin: ``FOLDER``. It prints the length of the log after each micro-batch.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import httpx  # noqa: F401 - loaded before the forks

from penstock.app import Runtime, alert_sending, alerting
from penstock.monitoring import alerts
from tests.crash.forked import live_and_die
from tests.unit.app.told import AmountIsScore, payments

EVENTS, STEP = 200, 5


def one_life(root: Path) -> None:
    alerts.FIRST_RETRY_US = 1_000
    alert_sending.POLL_S = alerting.POLL_S = 0.005
    with Runtime.open(root) as runtime:
        runtime.routes.serve("checkout", AmountIsScore())
        with alerting.alerting(runtime, finish=lambda: True):
            for first in range(runtime.engine.position, EVENTS, STEP):
                runtime.ingest("payments", payments([0.95, 0.1] * STEP, first)[:STEP])
                os.write(1, b"%d\n" % (first + STEP))


def main() -> None:
    for line in sys.stdin:
        live_and_die(partial(one_life, Path(line.strip())))


if __name__ == "__main__":
    main()
