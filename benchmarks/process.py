"""A contestant is a process: it prints one JSON line last; its wall time and peak memory are taken from outside."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

ROOT = Path(__file__).parents[1]
WORK = Path(__file__).parent / ".work"


class ContestantError(Exception):
    """A contestant did not finish; the message ends with the last lines that it wrote."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a contestant reported, and what was seen from outside."""

    report: dict[str, Any]
    wall_s: float
    peak_mb: float


def run_contestant(
    command: Sequence[str | Path], *, timeout_s: float = 900, environment: Mapping[str, str] | None = None
) -> Run:
    """Run a command to its end.

    Threads of numerical libraries are left as they are; who needs one thread asks for it. Peak memory is the largest
    resident set of the process.

    Raises
    ------
    ContestantError
        The command failed, ran out of time, or did not print its report.
    """
    with TemporaryFile() as out, TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
        status, usage = _wait(process, start + timeout_s)
        wall_s = time.perf_counter() - start
        lines = _text(out).strip().splitlines()
        if status != 0:
            raise ContestantError(f"{_name(command)} ended with {status}: {_tail(_text(err)) or _tail(_text(out))}")
    try:
        report = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise ContestantError(f"{_name(command)} printed no report") from error
    return Run(report, wall_s, usage.ru_maxrss / 1024)


def _wait(process: subprocess.Popen[bytes], deadline: float) -> tuple[int | str, Any]:
    """Wait with a deadline, keeping the resource usage that `Popen.wait` throws away."""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        if time.perf_counter() > deadline:
            process.kill()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            return "no answer in time", usage
        time.sleep(0.01)


def _text(file: Any) -> str:  # noqa: ANN401
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def _tail(text: str) -> str:
    """The last line, which names the error."""
    return text.strip().rpartition("\n")[2].strip()[-400:]


def _name(command: Sequence[str | Path]) -> str:
    return " ".join(Path(part).name if Path(part).is_absolute() else str(part) for part in command[:4])
