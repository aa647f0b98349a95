"""What is asked of the API, without asking: one function a noun, the same for both clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from penstock.client.rows import Rows, as_json, rows_of

JSON, NDJSON = "application/json", "application/x-ndjson"
ROWS_A_REQUEST = 1000

Values = Mapping[str, Any]


def whole(answer: Any) -> Any:
    """The answer as it is."""
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request.

    Attributes
    ----------
    repeatable
        Whether asking twice comes to the same, so that a lost answer may be asked for again.
    read
        What of the answer's JSON is returned.
    is_timed
        Whether the server is told how long it has.
    """

    method: str
    path: str
    params: Values = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = JSON
    repeatable: bool = True
    read: Callable[[Any], Any] = whole
    is_timed: bool = False


def get(path: str, params: Values | None = None) -> Call:
    """Read something."""
    return Call(method="GET", path=path, params=texts(params or {}))


def send(
    method: str, path: str, body: Any = None, params: Values | None = None, *, repeatable: bool = False
) -> Call:
    """Change something."""
    data = None if body is None else as_json(body)
    return Call(method=method, path=path, params=texts(params or {}), body=data, repeatable=repeatable)


def path_of(*parts: object) -> str:
    """``/v1/…`` with each part quoted.

    >>> path_of("models", "a/b")
    '/v1/models/a%2Fb'
    """
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


def score(endpoint: str, events: Rows, *, features: bool, reasons: bool) -> list[Call]:
    """Score events: one call, or several where they are many."""
    return _events(
        path_of("endpoints", endpoint, "score"), events, {"features": features, "reasons": reasons}
    )


def ingest(source: str, events: Rows, *, features: bool, dry_run: bool) -> list[Call]:
    """Ingest events, labels or rows."""
    return _events(path_of("sources", source, "events"), events, {"features": features, "dry_run": dry_run})


def _events(path: str, events: Rows, params: Values) -> list[Call]:
    asked = {name: "true" for name, wanted in params.items() if wanted}
    if isinstance(events, Mapping):
        return [Call(method="POST", path=path, params=asked, body=as_json(events), is_timed=True)]
    lines = rows_of(events)
    return [
        Call(
            method="POST",
            path=path,
            params=asked,
            body=b"\n".join(lines[i : i + ROWS_A_REQUEST]),
            content_type=NDJSON,
            read=_answers,
            is_timed=True,
        )
        for i in range(0, len(lines), ROWS_A_REQUEST)
    ]


def _answers(answer: Any) -> Any:
    return answer["answers"]


def features(service: str, join_keys: Any, request_data: Any) -> Call:
    """Features of a service by key."""
    body = {"join_keys": join_keys} | ({} if request_data is None else {"request_data": request_data})
    return send("POST", path_of("services", service, "features"), body, repeatable=True)


def event(source: str, event_id: str, *, features: bool, reasons: bool, provenance: bool) -> Call:
    """One event with its decision."""
    wanted = {"features": features, "reasons": reasons, "provenance": provenance}
    return get(
        path_of("sources", source, "events", event_id), {name: True for name, on in wanted.items() if on}
    )


def replay_dead_letter(letter_id: int, corrected: Any, reason: str) -> Call:
    """Send a dead letter again."""
    body = {"reason": reason}
    if corrected is not None:
        body["corrected"] = corrected.decode() if isinstance(corrected, bytes) else corrected
    return send("POST", path_of("dead-letters", letter_id, "replay"), body)


def many_dead_letters(verb: str, letter_ids: Sequence[int], reason: str) -> Call:
    """Replay or drop dead letters."""
    return send("POST", path_of("dead-letters", verb), {"ids": list(letter_ids), "reason": reason})


def change_list(name: str, changes: Sequence[Mapping[str, Any]], reason: str) -> Call:
    """List keys, or take them off a list."""
    rows = [{key: _text(v) if hasattr(v, "isoformat") else v for key, v in one.items()} for one in changes]
    return send("POST", path_of("lists", name, "changes"), {"changes": rows, "reason": reason})


def promote(model: str, version: object, *, stage: str, gate: str | None, force: bool, reason: str) -> Call:
    """Make a version live, or a candidate."""
    body: dict[str, Any] = {"stage": stage, "reason": reason}
    body |= {"gate": gate} if gate is not None else {}
    body |= {"force": True} if force else {}
    return send("POST", path_of("models", model, "versions", version, "promote"), body)


def texts(params: Values) -> dict[str, str]:
    """Those parameters that are given, as the query has them."""
    return {name: _text(value) for name, value in params.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
