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
POLL_S = 0.02


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
    resident set of the process itself, read from the kernel while it runs: the figure that waiting for a child gives
    begins with what the parent held.

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
            env=_joined(environment or {}),
        )
        peak_mb = _watch(process, start + timeout_s)
        wall_s = time.perf_counter() - start
        lines = _text(out).strip().splitlines()
        if process.returncode != 0:
            reason = _tail(_text(err)) or _tail(_text(out))
            raise ContestantError(f"{_name(command)} ended with {process.returncode}: {reason}")
    try:
        report = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise ContestantError(f"{_name(command)} printed no report") from error
    return Run(report, wall_s, peak_mb)


def _joined(more: Mapping[str, str]) -> dict[str, str]:
    """Our own environment and more; a module path goes before ours, or another tree's Penstock would be measured."""
    joined = {**os.environ, **more}
    if more.get("PYTHONPATH") and os.environ.get("PYTHONPATH"):
        ours = [str(Path(entry).absolute()) for entry in os.environ["PYTHONPATH"].split(os.pathsep)]
        joined["PYTHONPATH"] = os.pathsep.join([more["PYTHONPATH"], *ours])
    return joined


def _watch(process: subprocess.Popen[bytes], deadline: float) -> float:
    """Wait for the end of a process, or end it at the deadline; its peak resident set in MB."""
    peak_kb = 0
    while True:
        peak_kb = max(peak_kb, _peak_kb(process.pid))
        try:
            process.wait(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            if time.perf_counter() > deadline:
                process.kill()
                process.wait()
                return peak_kb / 1024
        else:
            return peak_kb / 1024


def peak_mb() -> float:
    """The largest resident set of this process so far."""
    return _peak_kb("self") / 1024


def resident_mb() -> float:
    """The resident set of this process now."""
    return _status_kb("self", "VmRSS:") / 1024


def _peak_kb(process: int | str) -> int:
    return _status_kb(process, "VmHWM:")


def _status_kb(process: int | str, entry: str) -> int:
    """An entry of a running process's status; 0 where it has just ended, or the system has no /proc."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    lines = (line.split() for line in status.splitlines() if line.startswith(entry))
    return next((int(line[1]) for line in lines), 0)


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def _tail(text: str) -> str:
    """The last line, which names the error."""
    return text.strip().rpartition("\n")[2].strip()[-400:]


def _name(command: Sequence[str | Path]) -> str:
    return " ".join(Path(part).name if Path(part).is_absolute() else str(part) for part in command[:4])
