"""Logs: one line an occurrence on stderr, as JSON or for people; those of the standard library and of uvicorn go the same way.

    log = logger("penstock.run")
    log.info("route changed", endpoint="checkout", version="fraud:2")

What operators need is logged, never what comes with events. Should a number of a payment card, an API key or something under a telling name get
into a line all the same, it is masked before it is written.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.stdlib import BoundLogger, ProcessorFormatter

from penstock.app.settings import LogSettings
from penstock.engine.card_numbers import masked

if TYPE_CHECKING:
    from structlog.typing import Processor

EventDict = MutableMapping[str, Any]

LONGEST = 8_192
"""Characters of a line; the rest is cut."""
SECRETS = frozenset(
    (
        *("authorization", "cookie", "headers", "key", "api_key", "password", "secret", "token"),
        *("body", "payload", "row", "values", "vector"),
    )
)
"""Names whose values are never written."""
HIDDEN = "***"
_API_KEY = re.compile(r"\b(pst_[A-Za-z0-9]+_)[A-Za-z0-9_-]+")
_QUIET = {"uvicorn.access": logging.CRITICAL, "httpx": logging.WARNING, "httpcore": logging.WARNING}
"""Loggers of libraries that say too much, and their least level."""

context = bound_contextvars
"""A context manager: lines written inside say this, too, such as ``request_id=…``."""


def logger(name: str) -> BoundLogger:
    """A logger whose methods take an occurrence and values by name; silent below warnings until `logging_as` is open."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            merge_contextvars,
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=BoundLogger,
    )
    return cast("BoundLogger", wrapped)


@contextmanager
def logging_as(settings: LogSettings) -> Iterator[bool]:
    """While open, logs are written as configured; whether lines are JSON."""
    person = settings.format == "auto" and sys.stderr.isatty()
    as_json = settings.format == "json" or (settings.format == "auto" and not person)
    # Where a person is looking, the command's own texts say what goes well.
    level = max(logging.WARNING, _level(settings.level)) if person else _level(settings.level)
    handler = _Stderr()
    handler.setFormatter(_formatter(as_json=as_json))
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    quieted = {name: logging.getLogger(name).level for name in _QUIET}
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(capture=True)
    try:
        yield as_json
    finally:
        logging.captureWarnings(capture=False)
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        for name, old in quieted.items():
            logging.getLogger(name).setLevel(old)


def safe(line: str) -> str:
    """A line without secrets.

    >>> safe("paid with 4111111111111111 and pst_ab12_c2VjcmV0")
    'paid with ************1111 and pst_ab12_***'
    """
    shown = _API_KEY.sub(rf"\g<1>{HIDDEN}", line)
    return masked(shown.encode("utf-8", "backslashreplace")).decode()[:LONGEST]


class _Stderr(logging.Handler):
    """Writes to what is stderr at the time: a live line in the terminal puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody listens any more: a log line is no reason to stop
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Do nothing: there is nowhere to say it."""


class _Formatter(ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return safe(super().format(record))


def _formatter(*, as_json: bool) -> logging.Formatter:
    common: list[Processor] = [_described, ProcessorFormatter.remove_processors_meta, _without_secrets]
    how: list[Processor]
    if as_json:
        how = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        render = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        how = [_printable, render]
    return _Formatter(
        processors=[*common, *how],
        foreign_pre_chain=[merge_contextvars, structlog.stdlib.ExtraAdder(allow=("request_id",))],
    )


def _described(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Time, level and logger first, then what happened."""
    record: logging.LogRecord = event["_record"]
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    head: EventDict = {
        "timestamp": at.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event.pop("event", ""),
    }
    head.update(event)
    return head


def _without_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {name: HIDDEN if name.lower() in SECRETS else value for name, value in event.items()}


def _printable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Texts from elsewhere must not move the cursor of a terminal."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _level(name: str) -> int:
    return logging.getLevelNamesMapping()[name.upper()]
