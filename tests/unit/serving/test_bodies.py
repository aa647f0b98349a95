"""Bounds on what a body may hold, checked before it is taken apart."""

import httpx
import pytest

from penstock.serving.bodies import MAX_EVENTS, MOST_COMMAS, MOST_LINES

EVENTS = "/v1/sources/payments/events"
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (b"\n" * (MOST_LINES + 1), NDJSON, "lines in one request"),
        (b"{}\n" * (MAX_EVENTS + 1), NDJSON, "10001 events"),
        (b"[" + b"," * (MOST_COMMAS + 1), {}, "commas in one request"),
        (b"[" + b"{}," * MAX_EVENTS + b"{}]", {}, "10001 events"),
    ],
)
def test_more_than_may_be_is_refused_whole(shop, body, headers, told):
    before = shop.runtime.store.next_position
    answer = httpx.post(shop.url + EVENTS, content=body, headers=headers, timeout=30)
    assert answer.status_code == 413
    assert told in answer.json()["detail"]
    assert shop.runtime.store.next_position == before


def test_blank_lines_up_to_the_bound_are_no_events(shop):
    answer = httpx.post(shop.url + EVENTS + "?dry_run=true", content=b"\n" * MOST_LINES, headers=NDJSON)
    assert answer.status_code < 500


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_who_needs_no_key_may_send_little(shop, path):
    answer = httpx.post(shop.url + path, content=b"key=" + b"x" * 4093)
    assert answer.status_code == 413
    assert httpx.post(shop.url + path, content=b"key=" + b"x" * 4092).status_code != 413
