"""The client."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload
from urllib.parse import quote

from penstock.client import calls
from penstock.client.attempts import Attempts, answer_of
from penstock.client.calls import Call, get, path_of, send
from penstock.client.events import Lines
from penstock.client.places import key_of, url_of
from penstock.client.rows import Rows

if TYPE_CHECKING:
    import httpx

Answer = dict[str, Any]
TIMEOUT_S = 10.0
SILENCE_S = 40.0
"""A stream that says nothing for so long is broken: something comes every 15 seconds."""


class Client:
    """Asks a running project over HTTP; use it as a context manager, or `close` it. Safe for several threads.

    A refusal for overload (429, 503) and a failing connection are tried again, with growing waits and the server's ``Retry-After``,
    while there is time. An event keeps its id, so it is decided once however often it is sent; events of a source without ids may be
    logged twice where an answer gets lost (``retries=False`` prevents it).

    Answers are JSON as Python has it; see the OpenAPI document at ``/v1/openapi.json``. Problems are raised as the error that the server
    raised: `NotFoundError`, `InputError`, `ContractError`, `OverloadError`, `DeadlineError`, `AccessError`, …

    Parameters
    ----------
    url
        Where the API listens. Default: ``PENSTOCK_URL``, else the running project that the current folder is in.
    key
        Default: ``PENSTOCK_KEY``.
    actor
        Who acts, for the audit log of a project without keys; with a key its name counts, and another is refused.
    timeout
        Seconds that a call may take with all its tries.
    retries
        Whether to try again.
    transport
        An httpx transport, for tests and for use without a socket.

    Examples
    --------
    ::

        with penstock.Client("http://127.0.0.1:8000") as client:
            answer = client.score("checkout", {"payment_id": "p1", "card_id": "c7", "amount": 12.5, ...})
            if answer["action"] == "block": ...
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        actor: str | None = None,
        timeout: float = TIMEOUT_S,
        retries: bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        import httpx

        self.url = url_of(url)
        self._timeout = timeout
        self._retries = retries
        self._http = httpx.Client(
            base_url=self.url, headers=headers_with(key_of(key), actor), transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # events and decisions

    @overload
    def score(
        self,
        endpoint: str,
        events: Mapping[str, Any],
        *,
        features: bool = ...,
        reasons: bool = ...,
        timeout: float | None = ...,
    ) -> Answer: ...
    @overload
    def score(
        self,
        endpoint: str,
        events: Rows,
        *,
        features: bool = ...,
        reasons: bool = ...,
        timeout: float | None = ...,
    ) -> Any: ...
    def score(
        self,
        endpoint: str,
        events: Rows,
        *,
        features: bool = False,
        reasons: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Score events: the answer to one dict, or a list of answers to several rows (dicts, a frame, an array, NDJSON).

        A single event that is refused raises `ContractError`; of several, each has its own answer. Many are sent 1000 at a time.
        """
        return self._each(calls.score(endpoint, events, features=features, reasons=reasons), events, timeout)

    @overload
    def ingest(
        self,
        source: str,
        events: Mapping[str, Any],
        *,
        features: bool = ...,
        dry_run: bool = ...,
        timeout: float | None = ...,
    ) -> Answer: ...
    @overload
    def ingest(
        self,
        source: str,
        events: Rows,
        *,
        features: bool = ...,
        dry_run: bool = ...,
        timeout: float | None = ...,
    ) -> Any: ...
    def ingest(
        self,
        source: str,
        events: Rows,
        *,
        features: bool = False,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Send events, labels or rows of a source, as `score` does; with `dry_run` they are only checked."""
        return self._each(calls.ingest(source, events, features=features, dry_run=dry_run), events, timeout)

    def features(self, service: str, join_keys: Any, request_data: Any = None) -> Answer:
        """The features of a service by key, now: one dict of keys, or a list of them."""
        return self._run(calls.features(service, join_keys, request_data))

    def event(
        self,
        source: str,
        event_id: str,
        *,
        features: bool = False,
        reasons: bool = False,
        provenance: bool = False,
        timeout: float | None = None,
    ) -> Answer:
        """An event with the decision on it and its labels."""
        call = calls.event(source, event_id, features=features, reasons=reasons, provenance=provenance)
        return self._run(call, timeout)

    def decisions(self, **filters: Any) -> Answer:
        """A page of decisions, newest first: filters as ``GET /v1/decisions`` has them, `limit`, `cursor`."""
        return self._run(get(path_of("decisions"), filters))

    def watch_decisions(self, **filters: Any) -> Iterator[Answer]:
        """New decisions as they are made: dicts with ``decisions`` and ``left_out``; ends when the server does."""
        lines = Lines()
        stream = self._http.stream(
            "GET", path_of("decisions", "stream"), params=calls.texts(filters), timeout=SILENCE_S
        )
        with stream as response:
            if response.status_code >= 400:
                Attempts(get(""), timeout_s=0, now_s=time.monotonic).wait_after(
                    response.status_code, response.headers, response.read()
                )
            for line in response.iter_lines():
                event = lines.event(line)
                if event is not None:
                    yield event

    # dead letters

    def dead_letters(self, **filters: Any) -> Answer:
        """A page of dead letters, newest first: `source`, `reason`, `limit`, `cursor`."""
        return self._run(get(path_of("dead-letters"), filters))

    def dead_letter(self, letter_id: int) -> Answer:
        """A dead letter with all of its bytes."""
        return self._run(get(path_of("dead-letters", letter_id)))

    def replay_dead_letter(self, letter_id: int, *, reason: str, corrected: Any = None) -> Answer:
        """Send a dead letter again, as it is or corrected (a dict, or bytes); it is removed if it is accepted."""
        return self._run(calls.replay_dead_letter(letter_id, corrected, reason))

    def replay_dead_letters(self, letter_ids: Sequence[int], *, reason: str) -> Answer:
        """Send up to 1000 dead letters again, as they are."""
        return self._run(calls.many_dead_letters("replay", letter_ids, reason))

    def drop_dead_letters(self, letter_ids: Sequence[int], *, reason: str) -> Answer:
        """Remove up to 1000 dead letters for good."""
        return self._run(calls.many_dead_letters("drop", letter_ids, reason))

    # lists of keys

    def lists(self) -> Answer:
        """The lists of keys, in one page."""
        return self._run(get(path_of("lists")))

    def list_members(self, name: str, **page: Any) -> Answer:
        """A page of the keys that are listed: `key`, `limit`, `cursor`."""
        return self._run(get(path_of("lists", name), page))

    def list_changes(self, name: str, **page: Any) -> Answer:
        """A page of the changes of a list, newest first: `key`, `limit`, `cursor`."""
        return self._run(get(path_of("lists", name, "changes"), page))

    def change_list(self, name: str, changes: Sequence[Mapping[str, Any]], *, reason: str) -> Answer:
        """List keys, or take them off: ``{"key": {"card_id": "c7"}, "listed": True, "expires_at": None}``; all of them, or none."""
        return self._run(calls.change_list(name, changes, reason))

    # policies

    def policies(self, **page: Any) -> Answer:
        """A page of the policies that endpoints decided by, the newest first: `limit`, `cursor`."""
        return self._run(get(path_of("policies"), page))

    def policy(self, digest: str) -> Answer:
        """The policy whose digest a decision names: thresholds, rules, lists, cap, costs, and when it was in force."""
        return self._run(get(path_of("policies", digest)))

    # models and endpoints

    def models(self, **page: Any) -> Answer:
        """A page of models."""
        return self._run(get(path_of("models"), page))

    def model(self, name: str) -> Answer:
        """One model."""
        return self._run(get(path_of("models", name)))

    def versions(self, model: str, **page: Any) -> Answer:
        """A page of a model's versions."""
        return self._run(get(path_of("models", model, "versions"), page))

    def version(self, model: str, version: int | str) -> Answer:
        """One version of a model."""
        return self._run(get(path_of("models", model, "versions", version)))

    def model_history(self, model: str, **page: Any) -> Answer:
        """What happened to a model; with `at`, which version was live then."""
        return self._run(get(path_of("models", model, "history"), page))

    def promote(
        self,
        model: str,
        version: int | str,
        *,
        reason: str,
        stage: str = "Production",
        gate: str | None = None,
        force: bool = False,
    ) -> Answer:
        """Make a version live; without `gate` (a report's digest) or `force` a job judges it first."""
        return self._run(calls.promote(model, version, stage=stage, gate=gate, force=force, reason=reason))

    def rollback(self, model: str, *, reason: str) -> Answer:
        """Put the version that was live before back."""
        return self._run(send("POST", path_of("models", model, "rollback"), {"reason": reason}))

    def endpoints(self, **page: Any) -> Answer:
        """A page of endpoints."""
        return self._run(get(path_of("endpoints"), page))

    def endpoint(self, name: str) -> Answer:
        """One endpoint: arms, weights, thresholds, and what serves."""
        return self._run(get(path_of("endpoints", name)))

    def set_weights(self, endpoint: str, weights: Mapping[str, float], *, reason: str) -> Answer:
        """Give the arms of an endpoint other shares of the events."""
        body = {"weights": dict(weights), "reason": reason}
        return self._run(send("PUT", path_of("endpoints", endpoint, "weights"), body))

    # what there is, and how it does

    def catalog(self) -> Answer:
        """Sources, views, services, models, endpoints."""
        return self._run(get(path_of("catalog")))

    def lineage(self, **filters: Any) -> Answer:
        """What comes from what, as nodes and edges."""
        return self._run(get(path_of("lineage"), filters))

    def datasets(self, **page: Any) -> Answer:
        """A page of recorded data sets."""
        return self._run(get(path_of("datasets"), page))

    def metrics(self, endpoint: str, **options: Any) -> Answer:
        """How an endpoint does, as far as labels are known."""
        return self._run(get(path_of("endpoints", endpoint, "metrics"), options))

    def drift(self, endpoint: str, **options: Any) -> Answer:
        """How far what an endpoint decides on is from what its model was trained on."""
        return self._run(get(path_of("endpoints", endpoint, "drift"), options))

    def live_drift(self, endpoint: str) -> Answer:
        """Drift of an endpoint as it happens: looks at its columns, and alarms of detectors."""
        return self._run(get(path_of("endpoints", endpoint, "drift", "live")))

    def alerts(self, **page: Any) -> Answer:
        """Alerts and how they stand."""
        return self._run(get(path_of("alerts"), page))

    def live(self) -> Answer:
        """The live metrics."""
        return self._run(get(path_of("live")))

    def version_info(self) -> Answer:
        """The version of Penstock, and the project's name."""
        return self._run(get(path_of("version")))

    def health(self) -> Answer:
        """Whether events are taken now; raises where they are not, when the time is over."""
        return self._run(get("/health/ready"))

    # jobs

    def jobs(self, **page: Any) -> Answer:
        """A page of jobs."""
        return self._run(get(path_of("jobs"), page))

    def job(self, job: str) -> Answer:
        """One job: state, progress, result or error."""
        return self._run(get(path_of("jobs", job)))

    def start_job(self, kind: str, params: Mapping[str, Any] | None = None, **more: Any) -> Answer:
        """Start long work; answers at once with the job."""
        return self._run(send("POST", path_of("jobs"), {"kind": kind, "params": dict(params or {}), **more}))

    def cancel_job(self, job: str, **more: Any) -> Answer:
        """End a job."""
        return self._run(send("DELETE", path_of("jobs", job), params=more))

    # anything

    def get(self, path: str, **params: Any) -> Any:
        """Read any path of the API."""
        return self._ask(get(path, params))

    def post(self, path: str, body: Any = None, **params: Any) -> Any:
        """Send JSON to any path of the API."""
        return self._ask(send("POST", path, body, params))

    def put(self, path: str, body: Any = None, **params: Any) -> Any:
        """Put JSON to any path of the API."""
        return self._ask(send("PUT", path, body, params))

    def delete(self, path: str, **params: Any) -> Any:
        """Delete at any path of the API."""
        return self._ask(send("DELETE", path, params=params))

    def _each(self, several: Sequence[Call], events: Rows, timeout: float | None) -> Any:
        found = [self._ask(call, timeout) for call in several]
        return found[0] if isinstance(events, Mapping) else [answer for part in found for answer in part]

    def _run(self, call: Call, timeout: float | None = None) -> Answer:
        found: Answer = self._ask(call, timeout)
        return found

    def _ask(self, call: Call, timeout: float | None = None) -> Any:
        import httpx

        timeout_s = self._timeout if timeout is None else timeout
        attempts = Attempts(call, timeout_s=timeout_s, now_s=time.monotonic, retries=self._retries)
        while True:
            try:
                response = self._http.request(
                    call.method,
                    call.path,
                    params=attempts.params,
                    content=call.body,
                    headers={"Content-Type": call.content_type} if call.body is not None else None,
                    timeout=attempts.left_s,
                )
            except httpx.TransportError as error:
                sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                time.sleep(attempts.wait_after_loss(self.url, error, sent=sent))
                continue
            if response.status_code < 400:
                return answer_of(call, response.content)
            time.sleep(attempts.wait_after(response.status_code, response.headers, response.content))


def headers_with(key: str | None, actor: str | None) -> dict[str, str]:
    """The headers that say who asks."""
    shown = {} if key is None else {"Authorization": f"Bearer {key}"}
    return shown if actor is None else {**shown, "X-Actor": quote(actor)}
