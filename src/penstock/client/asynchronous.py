"""The client for programs with an event loop: as `penstock.client.blocking`, to be awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from penstock.client import calls
from penstock.client.attempts import Attempts, answer_of
from penstock.client.blocking import SILENCE_S, TIMEOUT_S, Answer, headers_with
from penstock.client.calls import Call, get, path_of, send
from penstock.client.events import Lines
from penstock.client.places import key_of, url_of
from penstock.client.rows import Rows

if TYPE_CHECKING:
    import httpx


class AsyncClient:
    """`Client` with methods to be awaited; use it as an asynchronous context manager.

    Parameters
    ----------
    url, key, timeout, retries
        See `Client`.
    transport
        An httpx transport; ``httpx.ASGITransport(app)`` asks an application in the same process.

    Examples
    --------
    ::

        async with penstock.AsyncClient() as client:
            page = await client.decisions(action="block", limit=20)
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        actor: str | None = None,
        timeout: float = TIMEOUT_S,
        retries: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        import httpx

        self.url = url_of(url)
        self._timeout = timeout
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=self.url, headers=headers_with(key_of(key), actor), transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # events and decisions

    @overload
    async def score(
        self,
        endpoint: str,
        events: Mapping[str, Any],
        *,
        features: bool = ...,
        reasons: bool = ...,
        timeout: float | None = ...,
    ) -> Answer: ...
    @overload
    async def score(
        self,
        endpoint: str,
        events: Rows,
        *,
        features: bool = ...,
        reasons: bool = ...,
        timeout: float | None = ...,
    ) -> Any: ...
    async def score(
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
        return await self._each(
            calls.score(endpoint, events, features=features, reasons=reasons), events, timeout
        )

    @overload
    async def ingest(
        self,
        source: str,
        events: Mapping[str, Any],
        *,
        features: bool = ...,
        dry_run: bool = ...,
        timeout: float | None = ...,
    ) -> Answer: ...
    @overload
    async def ingest(
        self,
        source: str,
        events: Rows,
        *,
        features: bool = ...,
        dry_run: bool = ...,
        timeout: float | None = ...,
    ) -> Any: ...
    async def ingest(
        self,
        source: str,
        events: Rows,
        *,
        features: bool = False,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Send events, labels or rows of a source, as `score` does; with `dry_run` they are only checked."""
        return await self._each(
            calls.ingest(source, events, features=features, dry_run=dry_run), events, timeout
        )

    async def features(self, service: str, join_keys: Any, request_data: Any = None) -> Answer:
        """The features of a service by key, now: one dict of keys, or a list of them."""
        return await self._run(calls.features(service, join_keys, request_data))

    async def event(
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
        return await self._run(call, timeout)

    async def decisions(self, **filters: Any) -> Answer:
        """A page of decisions, newest first: filters as ``GET /v1/decisions`` has them, `limit`, `cursor`."""
        return await self._run(get(path_of("decisions"), filters))

    async def watch_decisions(self, **filters: Any) -> AsyncIterator[Answer]:
        """New decisions as they are made: dicts with ``decisions`` and ``left_out``; ends when the server does."""
        lines = Lines()
        stream = self._http.stream(
            "GET", path_of("decisions", "stream"), params=calls.texts(filters), timeout=SILENCE_S
        )
        async with stream as response:
            if response.status_code >= 400:
                Attempts(get(""), timeout_s=0, now_s=time.monotonic).wait_after(
                    response.status_code, response.headers, await response.aread()
                )
            async for line in response.aiter_lines():
                event = lines.event(line)
                if event is not None:
                    yield event

    # dead letters

    async def dead_letters(self, **filters: Any) -> Answer:
        """A page of dead letters, newest first: `source`, `reason`, `limit`, `cursor`."""
        return await self._run(get(path_of("dead-letters"), filters))

    async def dead_letter(self, letter_id: int) -> Answer:
        """A dead letter with all of its bytes."""
        return await self._run(get(path_of("dead-letters", letter_id)))

    async def replay_dead_letter(self, letter_id: int, *, reason: str, corrected: Any = None) -> Answer:
        """Send a dead letter again, as it is or corrected (a dict, or bytes); it is removed if it is accepted."""
        return await self._run(calls.replay_dead_letter(letter_id, corrected, reason))

    async def replay_dead_letters(self, letter_ids: Sequence[int], *, reason: str) -> Answer:
        """Send up to 1000 dead letters again, as they are."""
        return await self._run(calls.many_dead_letters("replay", letter_ids, reason))

    async def drop_dead_letters(self, letter_ids: Sequence[int], *, reason: str) -> Answer:
        """Remove up to 1000 dead letters for good."""
        return await self._run(calls.many_dead_letters("drop", letter_ids, reason))

    # lists of keys

    async def lists(self) -> Answer:
        """The lists of keys, in one page."""
        return await self._run(get(path_of("lists")))

    async def list_members(self, name: str, **page: Any) -> Answer:
        """A page of the keys that are listed: `key`, `limit`, `cursor`."""
        return await self._run(get(path_of("lists", name), page))

    async def list_changes(self, name: str, **page: Any) -> Answer:
        """A page of the changes of a list, newest first: `key`, `limit`, `cursor`."""
        return await self._run(get(path_of("lists", name, "changes"), page))

    async def change_list(self, name: str, changes: Sequence[Mapping[str, Any]], *, reason: str) -> Answer:
        """List keys, or take them off: ``{"key": {"card_id": "c7"}, "listed": True, "expires_at": None}``; all of them, or none."""
        return await self._run(calls.change_list(name, changes, reason))

    # policies

    async def policies(self, **page: Any) -> Answer:
        """A page of the policies that endpoints decided by, the newest first: `limit`, `cursor`."""
        return await self._run(get(path_of("policies"), page))

    async def policy(self, digest: str) -> Answer:
        """The policy whose digest a decision names: thresholds, rules, lists, cap, costs, and when it was in force."""
        return await self._run(get(path_of("policies", digest)))

    # models and endpoints

    async def models(self, **page: Any) -> Answer:
        """A page of models."""
        return await self._run(get(path_of("models"), page))

    async def model(self, name: str) -> Answer:
        """One model."""
        return await self._run(get(path_of("models", name)))

    async def versions(self, model: str, **page: Any) -> Answer:
        """A page of a model's versions."""
        return await self._run(get(path_of("models", model, "versions"), page))

    async def version(self, model: str, version: int | str) -> Answer:
        """One version of a model."""
        return await self._run(get(path_of("models", model, "versions", version)))

    async def model_history(self, model: str, **page: Any) -> Answer:
        """What happened to a model; with `at`, which version was live then."""
        return await self._run(get(path_of("models", model, "history"), page))

    async def promote(
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
        return await self._run(
            calls.promote(model, version, stage=stage, gate=gate, force=force, reason=reason)
        )

    async def rollback(self, model: str, *, reason: str) -> Answer:
        """Put the version that was live before back."""
        return await self._run(send("POST", path_of("models", model, "rollback"), {"reason": reason}))

    async def endpoints(self, **page: Any) -> Answer:
        """A page of endpoints."""
        return await self._run(get(path_of("endpoints"), page))

    async def endpoint(self, name: str) -> Answer:
        """One endpoint: arms, weights, thresholds, and what serves."""
        return await self._run(get(path_of("endpoints", name)))

    async def set_weights(self, endpoint: str, weights: Mapping[str, float], *, reason: str) -> Answer:
        """Give the arms of an endpoint other shares of the events."""
        body = {"weights": dict(weights), "reason": reason}
        return await self._run(send("PUT", path_of("endpoints", endpoint, "weights"), body))

    # what there is, and how it does

    async def catalog(self) -> Answer:
        """Sources, views, services, models, endpoints."""
        return await self._run(get(path_of("catalog")))

    async def lineage(self, **filters: Any) -> Answer:
        """What comes from what, as nodes and edges."""
        return await self._run(get(path_of("lineage"), filters))

    async def datasets(self, **page: Any) -> Answer:
        """A page of recorded data sets."""
        return await self._run(get(path_of("datasets"), page))

    async def metrics(self, endpoint: str, **options: Any) -> Answer:
        """How an endpoint does, as far as labels are known."""
        return await self._run(get(path_of("endpoints", endpoint, "metrics"), options))

    async def drift(self, endpoint: str, **options: Any) -> Answer:
        """How far what an endpoint decides on is from what its model was trained on."""
        return await self._run(get(path_of("endpoints", endpoint, "drift"), options))

    async def live_drift(self, endpoint: str) -> Answer:
        """Drift of an endpoint as it happens: looks at its columns, and alarms of detectors."""
        return await self._run(get(path_of("endpoints", endpoint, "drift", "live")))

    async def alerts(self, **page: Any) -> Answer:
        """Alerts and how they stand."""
        return await self._run(get(path_of("alerts"), page))

    async def live(self) -> Answer:
        """The live metrics."""
        return await self._run(get(path_of("live")))

    async def version_info(self) -> Answer:
        """The version of Penstock, and the project's name."""
        return await self._run(get(path_of("version")))

    async def health(self) -> Answer:
        """Whether events are taken now; raises where they are not, when the time is over."""
        return await self._run(get("/health/ready"))

    # jobs

    async def jobs(self, **page: Any) -> Answer:
        """A page of jobs."""
        return await self._run(get(path_of("jobs"), page))

    async def job(self, job: str) -> Answer:
        """One job: state, progress, result or error."""
        return await self._run(get(path_of("jobs", job)))

    async def start_job(self, kind: str, params: Mapping[str, Any] | None = None, **more: Any) -> Answer:
        """Start long work; answers at once with the job."""
        return await self._run(
            send("POST", path_of("jobs"), {"kind": kind, "params": dict(params or {}), **more})
        )

    async def cancel_job(self, job: str, **more: Any) -> Answer:
        """End a job."""
        return await self._run(send("DELETE", path_of("jobs", job), params=more))

    # anything

    async def get(self, path: str, **params: Any) -> Any:
        """Read any path of the API."""
        return await self._ask(get(path, params))

    async def post(self, path: str, body: Any = None, **params: Any) -> Any:
        """Send JSON to any path of the API."""
        return await self._ask(send("POST", path, body, params))

    async def put(self, path: str, body: Any = None, **params: Any) -> Any:
        """Put JSON to any path of the API."""
        return await self._ask(send("PUT", path, body, params))

    async def delete(self, path: str, **params: Any) -> Any:
        """Delete at any path of the API."""
        return await self._ask(send("DELETE", path, params=params))

    async def _each(self, several: Sequence[Call], events: Rows, timeout: float | None) -> Any:
        found = [await self._ask(call, timeout) for call in several]
        return found[0] if isinstance(events, Mapping) else [answer for part in found for answer in part]

    async def _run(self, call: Call, timeout: float | None = None) -> Answer:
        found: Answer = await self._ask(call, timeout)
        return found

    async def _ask(self, call: Call, timeout: float | None = None) -> Any:
        import httpx

        timeout_s = self._timeout if timeout is None else timeout
        attempts = Attempts(call, timeout_s=timeout_s, now_s=time.monotonic, retries=self._retries)
        while True:
            try:
                response = await self._http.request(
                    call.method,
                    call.path,
                    params=attempts.params,
                    content=call.body,
                    headers={"Content-Type": call.content_type} if call.body is not None else None,
                    timeout=attempts.left_s,
                )
            except httpx.TransportError as error:
                sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                await asyncio.sleep(attempts.wait_after_loss(self.url, error, sent=sent))
                continue
            if response.status_code < 400:
                return answer_of(call, response.content)
            await asyncio.sleep(attempts.wait_after(response.status_code, response.headers, response.content))
