"""Threads that send what the outbox of alerts holds: one a receiver, so that none waits for another."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping

from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.definitions.alert_lists import AddTo
from penstock.definitions.alerts import Alert, Receiver
from penstock.monitoring.alert_sinks import LONGEST_ERROR, Outbound, Outcome
from penstock.monitoring.alerts import retry_after_us
from penstock.stores.alerts import AlertStore, Due

POLL_S = 0.25
MOST_ATTEMPTS = 100

Receivers = Mapping[tuple[str, str], Receiver]
"""By alert and receiver's name."""


def receivers_of(alerts: Mapping[str, Alert]) -> dict[tuple[str, str], Receiver]:
    """Who is told of what."""
    return {(alert.name, to.name): to for alert in alerts.values() for to in alert.to}


def no_lists(_key: str, _body: bytes) -> Outcome:
    """There is no engine that could change a list."""
    return Outcome(delivered=False, error="no engine is open that could change a list")


class Sender:
    """Sends to one receiver, one message after the other; use `start` and `stop`.

    A receiver that fails is left alone for a while that grows with each failure in a row, so that one that is down is not asked once for
    each message that waits.

    Parameters
    ----------
    lists
        Makes the changes of lists that messages ask for, given key and body.
    chance
        Draws from 0 to 1, for the waits.
    """

    def __init__(
        self,
        name: str,
        store: AlertStore,
        receivers: Receivers,
        *,
        clock: Clock,
        lists: Callable[[str, bytes], Outcome] = no_lists,
        environ: Mapping[str, str] = os.environ,
        chance: Callable[[], float] = random.random,  # noqa: S311 - it spreads attempts, and guards nothing
    ) -> None:
        self.name = name
        self.receivers = receivers
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Attempts by alert and what became of them: ``sent``, ``failed`` (tried again), ``dead``."""
        self.problem = ""
        """What went wrong last that nobody foresaw."""
        self._store, self._clock, self._chance = store, clock, chance
        self._lists, self._outbound = lists, Outbound(environ)
        self._failures, self._not_before_us = 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-alert-sender", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End after the attempt under way; whether it did in time. What is not told waits for the next run."""
        self._stop.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def once(self) -> int:
        """Try what is due; how many were taken."""
        taken = 0
        now_us = self._clock.now_us()
        if now_us < self._not_before_us:
            return 0
        for due in self._store.due(self.name, now_us):
            receiver = self.receivers.get((due.alert, self.name))
            if receiver is None:  # no more defined: it waits until it is given up
                continue
            if self._stop.is_set() or not self._attempt(receiver, due):
                break
            taken += 1
        return taken

    def _attempt(self, receiver: Receiver, due: Due) -> bool:
        now_us = self._clock.now_us()
        try:
            if isinstance(receiver, AddTo):
                outcome = self._lists(due.key, due.body)
            else:
                outcome = self._outbound.send(receiver, due.key, due.body, now_us=now_us)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message waits, and the others are sent
            outcome = Outcome(delivered=False, error=f"{type(error).__name__}: {error}"[:LONGEST_ERROR])
        now_us = self._clock.now_us()
        if outcome.delivered:
            self._store.sent(due.id, now_us)
            self.outcomes[due.alert, "sent"] += 1
            self._failures = 0
            return True
        self._failures += 1
        attempts = due.attempts + 1
        pause = max(retry_after_us(self._failures, chance=self._chance()), outcome.retry_after_us)
        wait = max(retry_after_us(attempts, chance=self._chance()), outcome.retry_after_us)
        self._not_before_us = now_us + pause
        if outcome.final or attempts >= MOST_ATTEMPTS or now_us + wait > due.expires_us:
            self._store.dead(due.id, outcome.error, now_us)
            self.outcomes[due.alert, "dead"] += 1
        else:
            self._store.failed(due.id, outcome.error, due_us=now_us + wait)
            self.outcomes[due.alert, "failed"] += 1
        return False

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                taken = self.once()
            except Exception as error:  # noqa: BLE001 - a store that fails the follower meets too, and says so; the thread goes on
                self.problem = (
                    "" if isinstance(error, StoreError) else f"{self.name}: {type(error).__name__}: {error}"
                )
                taken = 0
            if not taken:
                self._stop.wait(POLL_S)
        self._outbound.close()
