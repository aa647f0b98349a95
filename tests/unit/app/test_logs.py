"""Log lines: JSON or for people, one way for all loggers, and nothing in them that came with an event."""

import json
import logging
import sys
import warnings

import pytest

from penstock.app.logs import LONGEST, context, logger, logging_as, safe
from penstock.app.settings import LogSettings

CARD, KEY = "4111111111111111", "pst_ab12_c2VjcmV0LXNlY3JldA"


@pytest.fixture
def lines(capsys):
    def written():
        return capsys.readouterr().err.splitlines()

    return written


def as_person(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_json_lines_say_when_how_bad_who_and_what(lines):
    with logging_as(LogSettings(format="json")) as as_json, context(request_id="r1"):
        logger("penstock.run").info("route changed", endpoint="checkout", version="fraud:2")
    [line] = lines()
    found = json.loads(line)
    assert as_json
    assert list(found)[:4] == ["timestamp", "level", "logger", "event"]
    assert set(found) == {*list(found)[:4], "request_id", "endpoint", "version"}
    assert found["timestamp"].endswith("Z")
    assert (found["level"], found["logger"], found["event"]) == ("info", "penstock.run", "route changed")
    assert (found["request_id"], found["version"]) == ("r1", "fraud:2")


def test_loggers_of_libraries_go_the_same_way(lines):
    with logging_as(LogSettings(format="json")), context(request_id="r2"):
        logging.getLogger("uvicorn.error").warning("shutting %s", "down")
        logging.getLogger("uvicorn.access").info("GET /v1/decisions/e1")
        logging.getLogger("httpx").info("HTTP Request: POST")
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("careful", stacklevel=1)
    found = [json.loads(line) for line in lines()]
    assert [(one["logger"], one["level"]) for one in found] == [
        ("uvicorn.error", "warning"),
        ("py.warnings", "warning"),
    ]
    assert found[0]["event"] == "shutting down"
    assert found[0]["request_id"] == "r2"


def test_less_important_lines_are_left_out(lines):
    with logging_as(LogSettings(format="json", level="warning")):
        logger("penstock.run").info("started")
        logger("penstock.run").warning("problem")
    assert [json.loads(line)["event"] for line in lines()] == ["problem"]


def test_an_error_brings_its_traceback(lines):
    with logging_as(LogSettings(format="json")):
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            logger("penstock.run").exception("failed")
    [line] = lines()
    assert "ZeroDivisionError" in json.loads(line)["exception"]


def test_pretty_lines_are_for_people(lines):
    with logging_as(LogSettings(format="pretty")) as as_json:
        logger("penstock.run").info("route changed", endpoint="checkout")
    [line] = lines()
    assert not as_json
    assert "route changed" in line
    assert "endpoint=checkout" in line
    assert not line.startswith("{")


def test_where_a_person_is_looking_only_warnings_are_added(lines, monkeypatch):
    as_person(monkeypatch)
    with logging_as(LogSettings()) as as_json:
        logger("penstock.run").info("started")
        logger("penstock.run").warning("problem", what="offline")
    [line] = lines()
    assert not as_json
    assert "problem" in line
    assert "offline" in line


def test_without_a_terminal_lines_are_json(lines):
    with logging_as(LogSettings()) as as_json:
        logger("penstock.run").info("started")
    assert as_json
    assert json.loads(lines()[0])["event"] == "started"


def test_nothing_is_written_before_and_after(lines):
    logger("penstock.run").info("before")
    with logging_as(LogSettings(format="json")):
        pass
    logger("penstock.run").info("after")
    assert lines() == []


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_no_card_key_or_payload_is_ever_written(lines, form):
    log = logger("penstock.run")
    with logging_as(LogSettings(format=form)):
        log.info("paid with %s", CARD, detail=f"Authorization: Bearer {KEY}")
        log.info(
            "request", authorization=KEY, payload={"amount": 12.5}, api_key="x" * 40, Body=b"secret-body"
        )
        log.info("nested", found=[{"card": CARD, "grouped": "4111 1111 1111 1111"}])
        logging.getLogger("uvicorn.error").error("bad header %s", KEY)
        try:
            int(f"card {CARD} of {KEY}")
        except ValueError:
            log.exception("failed")
    text = "\n".join(lines())
    for secret in (CARD, "4111 1111", "c2VjcmV0", "12.5", "xxxx", "secret-body"):
        assert secret not in text, secret
    assert "1111" in text
    assert "pst_ab12_***" in text


def test_a_line_is_one_line_of_bounded_length(lines):
    with logging_as(LogSettings(format="json")):
        logger("penstock.run").info("a\nb\x1b[2J", detail="x" * 100_000)
    [line] = lines()
    assert len(line) <= LONGEST
    assert "\x1b" not in line


def test_texts_from_elsewhere_do_not_steer_a_terminal(lines):
    with logging_as(LogSettings(format="pretty")):
        logger("penstock.run").info("a\x1b[2J\nfake", detail="\x1b]0;title\x07")
    [line] = lines()
    assert "\x1b[2J" not in line
    assert "\x1b]" not in line


def test_a_closed_stderr_stops_nobody(monkeypatch):
    class Closed:
        def isatty(self):
            return False

        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    with logging_as(LogSettings()):
        logger("penstock.run").info("started")


def test_times_are_not_taken_for_cards():
    for line in ("1767225600000000", "2026-01-01T00:00:00.123456Z", "id 1234567812345678"):
        assert safe(line) == line
