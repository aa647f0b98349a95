"""``GET /metrics`` of a worker: what `serving.prometheus` shows of a run, of each of its shards; and ``GET /health/ready``, for everybody.

The label ``shard`` is a shard's number, ``stage`` the column that parts its events, where there are several stages. A small server with a thread of its own, since a worker has no HTTP API. It lets in whom the API would: this machine as long as the project
has no keys, and else who shows a key with the scope ``read``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.registry import Collector

from penstock.app.api_keys import keys_path
from penstock.app.settings import load_settings
from penstock.core.clock import SystemClock
from penstock.monitoring.batch_facts import facts_of
from penstock.monitoring.stream_counts import StreamCounts
from penstock.serving.authentication import check_exposure
from penstock.serving.keyring import Keyring
from penstock.serving.prometheus import Family, Page, fill, fill_build
from penstock.stores.keys import Scope

if TYPE_CHECKING:
    from concurrent.futures import Future

    from penstock.app.running import Observe
    from penstock.app.runtime import Runtime
    from penstock.app.shards import Shard
    from penstock.app.worker import Worker
    from penstock.engine.local import Processed

PATH, READY = "/metrics", "/health/ready"
PATIENCE_S = 5.0
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
Environment = dict[str, Any]
Start = Callable[..., Any]


class WorkerMetrics(Collector):
    """Counts what the shards of a worker do, and shows it with what they are."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._counts: dict[str, StreamCounts] = {}

    def show(self, worker: Worker) -> None:
        """Show this worker's shards."""
        self._worker = worker

    @property
    def is_ready(self) -> bool:
        """Whether the worker has all shards open that it was given."""
        return self._worker is not None and self._worker.is_ready

    def observing(self, runtime: Runtime) -> Observe:
        """What counts the micro-batches of a shard; goes on where it was when the shard comes back."""
        counts = self._counts.setdefault(runtime.shard, StreamCounts())

        def note(processed: Processed, started_s: float) -> None:
            counts.add(facts_of(processed, runtime.plan))

            def durable(done: Future[None]) -> None:
                if done.exception() is None:
                    counts.durable(time.monotonic() - started_s, commit_s=runtime.engine.commit_s)

            processed.committed.add_done_callback(durable)

        return note

    def describe(self) -> Iterable[Family]:
        """Nothing: the registry need not ask before the first scrape."""
        return ()

    def collect(self) -> Iterator[Family]:
        """The metrics now."""
        found: dict[str, Family] = {}
        if self._worker is None:
            return iter(())
        shards = [
            (stage.name, shard) for stage in self._worker.stages for shard in list(stage.shards.values())
        ]
        for stage, shard in shards:
            label = {"shard": str(shard.number)} | ({"stage": stage} if stage else {})
            for family in self._of(shard):
                family.samples = [one._replace(labels=one.labels | label) for one in family.samples]
                known = found.setdefault(family.name, family)
                if known is not family:
                    known.samples += family.samples
        return iter(list(found.values()))

    def _of(self, shard: Shard) -> Iterator[Family]:
        assert self._worker is not None
        runtime, page = shard.runtime, Page()
        fill(page, runtime, self._counts[runtime.shard].totals(), now_us=runtime.clock.now_us())
        page.add("penstock_log_rows", runtime.engine.position)
        fill_build(page, runtime)
        status = self._worker.status.shards.get(runtime.shard)
        if status is not None:
            page.add("penstock_input_lag_messages", status.lag, self._worker.source)
        return page.families()


@contextmanager
def serving_metrics(root: Path, metrics: WorkerMetrics, *, port: int) -> Iterator[str]:
    """While open, `metrics` are served; gives their address.

    Parameters
    ----------
    port
        The port, on ``[serve] host``; 0: any that is free.

    Raises
    ------
    SettingsError
        Others can reach the host, and the project has no keys.
    OSError
        The port is taken.
    """
    host = load_settings(root).serve.host
    keyring = Keyring(keys_path(root), clock=SystemClock())
    check_exposure(host, keyring)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    ProcessCollector(registry=registry)
    server = make_server(
        host, port, _answers(metrics, make_wsgi_app(registry), keyring), handler_class=_Quiet
    )
    thread = threading.Thread(target=server.serve_forever, name="penstock-metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}{PATH}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(WSGIRequestHandler):
    """Writes no line for each scrape, and waits for no slow caller."""

    timeout = PATIENCE_S

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _answers(
    metrics: WorkerMetrics, app: Any, keyring: Keyring
) -> Callable[[Environment, Start], Iterable[bytes]]:
    def answer(environ: Environment, start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == READY and environ["REQUEST_METHOD"] == "GET":
            return _said(HTTPStatus.OK if metrics.is_ready else HTTPStatus.SERVICE_UNAVAILABLE, start)
        refused = _refusal(environ, keyring)
        if refused is None:
            found: Iterable[bytes] = app(environ, start)
            return found
        return _said(refused, start)

    return answer


def _said(status: HTTPStatus, start: Start) -> Iterable[bytes]:
    start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain")])
    return [status.phrase.encode()]


def _refusal(environ: Environment, keyring: Keyring) -> HTTPStatus | None:
    """Why a request gets no metrics; None where it does."""
    if environ["PATH_INFO"] != PATH:
        return HTTPStatus.NOT_FOUND
    if environ["REQUEST_METHOD"] != "GET":
        return HTTPStatus.METHOD_NOT_ALLOWED
    if keyring.is_empty:  # a page of another site that calls itself this machine must not read it
        name = str(environ.get("HTTP_HOST", "")).rpartition(":")[0] or environ.get("HTTP_HOST", "")
        return (
            None if name in _LOCAL_NAMES and "HTTP_X_FORWARDED_FOR" not in environ else HTTPStatus.FORBIDDEN
        )
    scheme, _, text = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    key = keyring.authenticate(text.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        return HTTPStatus.UNAUTHORIZED
    return None if {Scope.READ, Scope.ADMIN} & set(key.scopes) else HTTPStatus.FORBIDDEN
