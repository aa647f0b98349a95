"""The process of a job: reads what is asked from stdin, and writes progress and result to stdout, a line of JSON each.

python -m penstock.serving.job_process PROJECT
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from penstock.app.child import stand_back
from penstock.core.errors import PenstockError
from penstock.core.time import from_us
from penstock.models.manifest import json_value
from penstock.serving.job_errors import told

SAY_EVERY_S = 0.2


class Speaker:
    """Writes messages; progress at most five times a second."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._said_s = float("-inf")

    def progress(self, done: int, total: int) -> None:
        """So much of the work is done."""
        now = time.monotonic()
        if now - self._said_s >= SAY_EVERY_S:
            self._said_s = now
            self.say({"done": int(done), "total": int(total)})

    def tell(self, line: str) -> None:
        """What is done now."""
        self.say({"said": line})

    def say(self, message: Mapping[str, Any]) -> None:
        """Write one message."""
        self._out.write(json.dumps(plain(message), allow_nan=False, separators=(",", ":")).encode() + b"\n")
        self._out.flush()


def plain(value: Any) -> Any:
    """`value` as JSON values: times as ISO 8601, NumPy's numbers as Python's, what is not finite as None.

    >>> plain({"at_us": 5, "share": float("nan"), "half": (timedelta(seconds=1),)})
    {'at_us': 5, 'share': None, 'half': ['0:00:01']}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return json_value(value)


TIMES = frozenset(
    f"{name}_us"
    for name in (
        "at", "created", "end", "ended", "first", "known", "label_end", "label_start", "last", "newest", "now", "since",
        "start", "started", "time",
    )
)  # fmt: skip
"""Members of our figures that are times; what else ends in ``_us`` is a duration."""


def dated(value: Any) -> Any:
    """`value` with each time ``NAME_us`` as ``NAME``, ISO 8601; for figures of ours, not for what users named.

    >>> dated({"start_us": 0, "rows": [{"delay_us": 5}]})
    {'start': '1970-01-01T00:00:00+00:00', 'rows': [{'delay_us': 5}]}
    """
    if isinstance(value, Mapping):
        return dict(_member(key, one) for key, one in value.items())
    return [dated(one) for one in value] if isinstance(value, list | tuple) else value


def _member(key: str, value: Any) -> tuple[str, Any]:
    if key not in TIMES:
        return key, dated(value)
    return key.removesuffix("_us"), None if value is None else from_us(value).isoformat()


def end_with_the_server(stdin: int) -> None:
    """End this process as soon as the file `stdin` ends; waits in a thread."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(
                stdin, 1 << 10
            ):  # past Python's buffer, whose lock would hold up the end of a failing process
                pass
        os._exit(1)

    threading.Thread(target=wait, name="penstock-job-server", daemon=True).start()


def main(root: Path) -> int:
    """Do what stdin asks for."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what definitions print is no message
    speaker = Speaker(out)
    stdin = sys.stdin.buffer
    asked = json.loads(stdin.readline())
    stand_back()
    end_with_the_server(stdin.fileno())
    try:
        from penstock.serving.job_work import Work, run

        result = run(Work(root, asked, speaker, out))
    except PenstockError as error:
        speaker.say({"error": told(error)})
        return 1
    if result is not None:
        speaker.say({"result": result})
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # threads of libraries must not hold it up
