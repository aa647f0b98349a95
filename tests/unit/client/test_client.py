"""The clients: what they send, which errors they raise, and when they try again."""

from __future__ import annotations

import asyncio
import inspect
import json
from datetime import UTC, datetime

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import penstock
from penstock.client import attempts as attempts_module
from penstock.client.attempts import BY_CODE, Attempts, error_of
from penstock.client.calls import Call
from penstock.client.rows import rows_of
from penstock.core import errors
from penstock.core.errors import (
    ContractError,
    DeadlineError,
    DefinitionError,
    InputError,
    NotFoundError,
    OverloadError,
    PenstockError,
    ProjectError,
    UnreachableError,
)
from penstock.serving.problems import STATUS, problem_of, response_of

AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


class Clock:
    """Time that passes by sleeping."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self.slept = []
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("time.sleep", self.sleep)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def client_of(*answers, **options):
    """A client of a server that gives these answers one after another (the last for ever); and what it was asked."""
    asked, left = [], list(answers)

    def answer(request):
        asked.append(request)
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, Exception):
            raise one
        return one

    options.setdefault("timeout", 5.0)
    return penstock.Client("http://there", transport=httpx.MockTransport(answer), **options), asked


def problem(error):
    response = response_of(problem_of(error), "r-1")
    return httpx.Response(response.status_code, headers=dict(response.headers), content=response.body)


OK = httpx.Response(200, json={"status": "scored"})


def raised():
    """Every error class that the server may raise."""
    for kind in STATUS:
        if kind is ContractError:
            yield ContractError("missing_field", "no amount")
        elif kind is OverloadError:
            yield OverloadError("much", retry_after_s=3.0)
        else:
            yield kind("what was found")
    yield DeadlineError("late", taken=False)
    yield DeadlineError("late", taken=True)


@pytest.mark.parametrize("error", list(raised()), ids=lambda e: type(e).__name__)
def test_the_servers_error_is_raised_with_its_message(error):
    client, _ = client_of(problem(error), retries=False)
    with pytest.raises(type(error)) as found:
        client.get("/v1/anything")
    assert found.type is type(error)
    if not isinstance(error, ContractError):
        assert str(found.value) == str(error)
    assert found.value.__notes__ == ["request r-1"]
    if isinstance(error, OverloadError):
        assert found.value.retry_after_s == 3.0
    if isinstance(error, DeadlineError):
        assert found.value.taken is error.taken


def test_the_clients_table_is_the_servers_turned_around():
    for kind, (_, code) in STATUS.items():
        assert BY_CODE.get(code, kind) is kind


def test_a_refused_event_is_a_contract_error_and_of_several_an_answer():
    refused = {
        "type": "urn:penstock:problem:missing_field",
        "detail": "no `amount`",
        "answer": {"status": "rejected", "reason": "missing_field"},
    }
    client, _ = client_of(httpx.Response(422, json=refused))
    with pytest.raises(ContractError, match="no `amount`") as found:
        client.score("checkout", {"id": 1})
    assert found.value.reason == "missing_field"
    client, _ = client_of(httpx.Response(200, json={"answers": [refused["answer"]]}))
    assert client.score("checkout", [{"id": 1}]) == [refused["answer"]]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"type": 7}', b"\xff"])
def test_an_answer_of_somebody_else_is_an_error_too(body):
    for status in (400, 404, 418, 500, 502):
        assert isinstance(error_of(status, {}, body), PenstockError)


def test_overload_is_tried_again_with_the_same_bytes_after_the_time_that_was_said(clock):
    client, asked = client_of(
        problem(OverloadError("much", retry_after_s=2.0)), problem(OverloadError("much")), OK
    )
    assert client.score("checkout", {"id": "a"}) == {"status": "scored"}
    assert len({one.content for one in asked}) == 1
    assert len(asked) == 3
    assert clock.slept[0] >= 2.0
    assert clock.slept[1] >= 1.0


def test_the_server_is_told_how_long_it_has(clock):
    client, asked = client_of(problem(OverloadError("much", retry_after_s=2.0)), OK)
    client.score("checkout", {"id": "a"})
    first, second = (int(one.url.params["timeout_ms"]) for one in asked)
    assert first == 5000
    assert second <= 3000


def test_no_try_begins_after_the_deadline(clock):
    client, asked = client_of(problem(OverloadError("much", retry_after_s=1.0)), timeout=2.5)
    with pytest.raises(OverloadError):
        client.score("checkout", {"id": "a"})
    assert clock.now - 100.0 <= 2.5
    assert len(asked) >= 2


def test_a_server_that_wants_more_time_than_there_is_is_not_waited_for(clock):
    client, asked = client_of(problem(OverloadError("much", retry_after_s=60.0)))
    with pytest.raises(OverloadError):
        client.score("checkout", {"id": "a"})
    assert (len(asked), clock.slept) == (1, [])


def test_waits_grow_and_are_bounded(clock):
    client, _ = client_of(httpx.ConnectError("refused"), timeout=30)
    with pytest.raises(UnreachableError, match="penstock up"):
        client.score("checkout", {"id": "a"})
    assert clock.slept[0] <= 0.05
    assert max(clock.slept) <= attempts_module.LONGEST_WAIT_S
    assert clock.slept[5] > clock.slept[0]


@pytest.mark.parametrize(
    "lost", [httpx.ReadError("reset"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")]
)
def test_a_lost_answer_is_asked_for_again_where_that_comes_to_the_same(clock, lost):
    client, asked = client_of(lost, OK)
    client.score("checkout", {"id": "a"})
    assert len(asked) == 2
    client, asked = client_of(lost, OK)
    with pytest.raises(UnreachableError, match="may have been done"):
        client.rollback("fraud", reason="worse")
    assert len(asked) == 1


def test_what_never_arrived_is_always_sent_again(clock):
    client, asked = client_of(httpx.ConnectError("refused"), OK)
    client.rollback("fraud", reason="worse")
    assert len(asked) == 2


def test_other_errors_are_not_tried_again(clock):
    for error in (NotFoundError("no"), InputError("no"), DefinitionError("no")):
        client, asked = client_of(problem(error), OK)
        with pytest.raises(type(error)):
            client.score("checkout", {"id": "a"})
        assert len(asked) == 1


def test_without_retries_there_are_none(clock):
    for failure in (problem(OverloadError("much")), httpx.ConnectError("refused")):
        client, asked = client_of(failure, retries=False)
        with pytest.raises(PenstockError):
            client.score("checkout", {"id": "a"})
        assert len(asked) == 1


def test_many_rows_go_in_parts_and_come_back_in_order():
    asked = []

    def answer(request):
        rows = [json.loads(line) for line in request.content.split(b"\n")]
        asked.append(len(rows))
        return httpx.Response(200, json={"answers": rows})

    client = penstock.Client("http://there", transport=httpx.MockTransport(answer))
    rows = [{"id": i} for i in range(2500)]
    assert client.ingest("payments", rows) == rows
    assert asked == [1000, 1000, 500]
    assert client.ingest("payments", []) == []


ROWS = [
    {"id": "a", "amount": 1.5, "n": 7, "at": AT.replace(tzinfo=None)},
    {"id": "b", "amount": 2.0, "n": 8, "at": AT.replace(tzinfo=None)},
]


@pytest.mark.parametrize(
    "events",
    [
        ROWS,
        tuple(ROWS),
        (row for row in ROWS),
        pd.DataFrame(ROWS),
        pl.DataFrame(ROWS),
        pa.Table.from_pylist(ROWS),
        np.array(
            [tuple(row.values()) for row in ROWS],
            [("id", "U1"), ("amount", "f8"), ("n", "i8"), ("at", "M8[us]")],
        ),
        [
            {
                **row,
                "amount": np.float64(row["amount"]),
                "n": np.int64(row["n"]),
                "at": np.datetime64(row["at"]),
            }
            for row in ROWS
        ],
    ],
    ids=["list", "tuple", "iterator", "pandas", "polars", "arrow", "numpy", "numpy scalars"],
)
def test_rows_of_any_kind_are_the_same_lines(events):
    found = [json.loads(line) for line in rows_of(events)]
    for row in found:
        row["at"] = datetime.fromisoformat(row["at"])
    assert found == ROWS


def test_what_is_missing_in_a_frame_is_null_and_in_a_dict_nan_stays():
    frame = pd.DataFrame(
        {"x": [1.0, np.nan], "t": [pd.Timestamp(AT), pd.NaT], "s": pd.array(["a", pd.NA], "string")}
    )
    assert json.loads(rows_of(frame)[1]) == {"x": None, "t": None, "s": None}
    assert rows_of([{"x": float("nan")}]) == [b'{"x": NaN}']
    assert rows_of(b'{"a":1}\n\n{"a":2}\n') == [b'{"a":1}', b'{"a":2}']


@pytest.mark.parametrize("events", ["text", 7, None, [{"x": object()}], [{"x": {1, 2}}]])
def test_what_is_no_event_is_refused_here(events):
    client, asked = client_of(OK)
    with pytest.raises(InputError, match="events"):
        client.ingest("payments", events)
    assert asked == []


def test_names_are_quoted():
    client, asked = client_of(OK)
    client.event("pay/ments", "../a b?c#d")
    assert asked[0].url.raw_path == b"/v1/sources/pay%2Fments/events/..%2Fa%20b%3Fc%23d"


def test_url_and_key_from_the_environment_or_the_running_project(monkeypatch, tmp_path):
    monkeypatch.setenv("PENSTOCK_URL", "http://elsewhere/")
    monkeypatch.setenv("PENSTOCK_KEY", "pst_1_x")
    client = penstock.Client()
    assert client.url == "http://elsewhere"
    assert client._http.headers["authorization"] == "Bearer pst_1_x"
    monkeypatch.delenv("PENSTOCK_URL")
    (tmp_path / "penstock.toml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="penstock up"):
        penstock.Client()


def public(kind):
    return {name: one for name, one in vars(kind).items() if not name.startswith("_") and callable(one)}


def test_both_clients_have_the_same_methods():
    blocking, asynchronous = public(penstock.Client), public(penstock.AsyncClient)
    assert blocking.keys() == asynchronous.keys()
    for name, one in blocking.items():
        other = asynchronous[name]
        assert inspect.signature(one).parameters == inspect.signature(other).parameters, name
        assert inspect.getdoc(one) == inspect.getdoc(other), name
        assert inspect.iscoroutinefunction(other) or inspect.isasyncgenfunction(other), name


def test_the_asynchronous_client_tries_again_too():
    answered = httpx.Response(200, json={"status": "scored"})
    left = [httpx.ConnectError("refused"), problem(OverloadError("much", retry_after_s=0.01)), answered]

    def answer(_):
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    async def ask():
        async with penstock.AsyncClient("http://there", transport=httpx.MockTransport(answer)) as client:
            return await client.score("checkout", {"id": "a"})

    assert asyncio.run(ask()) == {"status": "scored"}


def test_the_time_left_never_runs_out_to_nothing():
    attempts = Attempts(Call(method="GET", path="/"), timeout_s=-1.0, now_s=lambda: 0.0)
    assert attempts.left_s > 0


def test_every_class_of_the_table_is_an_error_of_ours():
    assert set(BY_CODE.values()) <= {one for one in vars(errors).values() if inspect.isclass(one)}
