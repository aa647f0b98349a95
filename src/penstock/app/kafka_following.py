"""Decisions, feature vectors and dead letters to Kafka topics: a follower of the log, which never holds up the engine.

What is committed is sent, and only when the brokers have it is it noted up to where. After a crash the same messages are sent again under the same
keys, so a topic has each decision at least once; whoever reads it takes one of each key. The note is no truth: without it all is sent again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from penstock.app.kafka_inputs import client_settings
from penstock.app.runtime import open_reader
from penstock.app.vector_messages import encode, finite, vector_message
from penstock.connectors.kafka_sink import Header, KafkaSink
from penstock.core.errors import PenstockError
from penstock.core.time import from_us
from penstock.definitions.kafka_configs import KafkaConfig
from penstock.engine.answers import event_ids
from penstock.engine.decisions import Decisions, Flag
from penstock.engine.lookup import RowReader
from penstock.kernel.columns import IntArray
from penstock.plan.nodes import Plan
from penstock.stores.directories import sync_directory
from penstock.stores.reader import ProjectReader

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.app.settings import KafkaSettings

PROBLEM = "kafka"
FILE = "kafka_sent.json"
STRETCH_ROWS = 16_384
LETTERS = 1_000
POLL_S, AGAIN_S = 0.02, 1.0
_ERASED = np.uint8(Flag.ERASED)

Send = Callable[[str, bytes, bytes, list[Header]], None]


class Sent(msgspec.Struct, frozen=True):
    """Up to where the topics have what a store has: a log position, and the id of a dead letter."""

    store_id: str
    position: int = 0
    letter: int = 0


_sent_decoder = msgspec.json.Decoder(Sent)


class KafkaFollower:
    """Sends what is committed, in log order.

    Parameters
    ----------
    log
        A reader of its own.
    settings
        The topics; those that are not named get nothing.
    send, flush
        Send ``(topic, key, value, headers)``; return when all that was sent is there, or raise.
    folder
        Where it is noted up to where all was sent.
    """

    def __init__(
        self,
        log: ProjectReader,
        plan: Plan,
        settings: KafkaSettings,
        *,
        send: Send,
        flush: Callable[[], None],
        folder: Path,
    ) -> None:
        self._log, self._settings, self._send, self._flush = log, settings, send, flush
        self._path = folder / FILE
        self.define(plan)
        noted = self._noted()
        self.sent = noted if noted.store_id == log.store_id else Sent(log.store_id)
        """Up to where all was sent."""

    def define(self, plan: Plan) -> None:
        """Go on with these definitions."""
        self._plan = plan
        self._rows = RowReader(self._log, plan.sources)
        self._names = {service.fingerprint: service.feature_names for service in plan.services.values()}

    def step(self) -> bool:
        """Send the next stretch of the log and of dead letters; whether there was anything.

        Raises
        ------
        PenstockError
            The log cannot be read, or the brokers do not take what is sent. The next step sends it again.
        """
        stop = min(self._log.next_position, self.sent.position + STRETCH_ROWS)
        letter = self._send_letters()
        if stop == self.sent.position and letter == self.sent.letter:
            return False
        if stop > self.sent.position:
            self._send_decisions(stop)
        self._flush()
        self.sent = Sent(self.sent.store_id, stop, letter)
        self._note()
        return True

    def _send_decisions(self, stop: int) -> None:
        settings = self._settings
        if settings.predictions_topic is None and settings.feature_vectors_topic is None:
            return
        endpoints = set(self._plan.endpoints)
        for batch in self._log.read_decisions(self.sent.position, stop, endpoints=endpoints):
            decisions = Decisions.from_bytes(batch.payload)
            fresh = np.flatnonzero(
                (batch.positions >= self.sent.position)
                & (batch.positions < stop)
                & ((decisions.flags & _ERASED) == 0)
            )
            if len(fresh):
                self._send_batch(batch.endpoint, batch.positions[fresh], decisions.take(fresh))

    def _send_batch(self, endpoint: str, positions: IntArray, decisions: Decisions) -> None:
        source = self._plan.sources[self._plan.endpoints[endpoint].source]
        events = self._rows.events(source.name, positions)
        times = events[source.time_field].values.astype(np.int64).tolist()  # type: ignore[union-attr]
        ids = event_ids(events, source, positions.tolist())
        predictions, vectors = self._settings.predictions_topic, self._settings.feature_vectors_topic
        names = self._names.get(decisions.service)
        for row, (identity, position) in enumerate(zip(ids, positions.tolist(), strict=True)):
            key = str(identity).encode()
            said: dict[str, Any] = {
                "endpoint": endpoint,
                "event_id": identity,
                "position": position,
                "time": from_us(times[row]).isoformat(),
            }
            if predictions is not None:
                self._send(predictions, key, encode(said | _decided(decisions, row)), [])
            if vectors is not None:
                values = decisions.vectors[row].tolist()
                self._send(vectors, key, vector_message(said, decisions.service, names, values), [])

    def _send_letters(self) -> int:
        """Send the next dead letters; the id of the last."""
        topic, last = self._settings.dead_letters_topic, self.sent.letter
        if topic is None:
            return last
        for letter in self._log.dead_letters(LETTERS, after=last):
            last = letter.letter_id
            headers: list[Header] = [
                ("source", letter.source.encode()),
                ("reason", letter.reason.encode()),
                ("detail", letter.detail.encode(errors="backslashreplace")),
                ("received", from_us(letter.received_us).isoformat().encode()),
            ]
            self._send(topic, f"{letter.source}-{last}".encode(), letter.payload, headers)
        return last

    def _noted(self) -> Sent:
        try:
            return _sent_decoder.decode(self._path.read_bytes())
        except (OSError, msgspec.DecodeError):
            return Sent("")

    def _note(self) -> None:
        aside = self._path.with_suffix(".part")
        with aside.open("wb") as file:
            file.write(encode(self.sent))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)
        sync_directory(self._path.parent)


def _decided(decisions: Decisions, row: int) -> dict[str, Any]:
    by = decisions.decided_by(row)
    return {
        "action": decisions.actions[int(decisions.taken[row])],
        "score": finite(float(decisions.scores[row])),
        "model": by.version or None,
        "arm": by.arm or None,
        "rule": decisions.rule(row),
        "policy": decisions.policy or None,
        "lists": decisions.versions_of_lists(row),
        "flags": [flag.name.lower() for flag in Flag if flag.name and decisions.flags[row] & flag.value],
    }


class _Following:
    """The thread of a follower; what goes wrong stands in `Runtime.problems` under ``kafka``, and is tried again."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings.kafka
        servers = settings.bootstrap_servers or _servers(runtime)
        self._runtime = runtime
        self._sink = KafkaSink(client_settings(KafkaConfig(servers, "results"), settings))
        self._log = open_reader(runtime.project.root, runtime.shard)
        self._plan = runtime.plan
        self._follower = KafkaFollower(
            self._log,
            self._plan,
            settings,
            send=self._sink.send,
            flush=self._sink.flush,
            folder=runtime.folder,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-kafka-results", daemon=True)
        self._thread.start()

    def close(self, *, finish: bool) -> None:
        """End; where `finish`, once all that is committed was sent, unless it cannot be."""
        self._stop.set()
        self._thread.join()
        try:
            while finish and self._follower.step():
                pass
        except PenstockError as error:
            self._runtime.problems[PROBLEM] = str(error)
        finally:
            self._sink.close()
            self._log.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            wait_s = POLL_S
            try:
                if self._plan is not self._runtime.plan:
                    self._plan = self._runtime.plan
                    self._follower.define(self._plan)
                wait_s = 0.0 if self._follower.step() else POLL_S
                self._runtime.problems.pop(PROBLEM, None)
            except PenstockError as error:
                self._runtime.problems[PROBLEM], wait_s = str(error), AGAIN_S
            self._stop.wait(wait_s)


@contextmanager
def sending_results(runtime: Runtime, *, finish: Callable[[], bool] = bool) -> Iterator[None]:
    """While open, results of `runtime` go to the topics of ``[kafka]``, if it names any; at the end all of them, where `finish` says so."""
    settings = runtime.settings.kafka
    if not (settings.predictions_topic or settings.feature_vectors_topic or settings.dead_letters_topic):
        yield
        return
    following = _Following(runtime)
    try:
        yield
    finally:
        following.close(finish=finish())


def _servers(runtime: Runtime) -> str:
    from penstock.app.kafka_inputs import kafka_sources
    from penstock.core.errors import SettingsError

    for config in kafka_sources(runtime.project, runtime.plan).values():
        return config.kafka_bootstrap_servers
    raise SettingsError(
        "settings: [kafka] names topics for results, and no brokers; no source has a KafkaConfig. Set bootstrap_servers of [kafka]."
    )
