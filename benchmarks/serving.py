"""One event over HTTP, from the request's bytes to the durable decision: server and load on the same processors.

`python -m benchmarks.serving CONTESTANT LOAD SECONDS` is one turn, in a child process: it starts the contestant's server, puts the
load on it, and prints a report.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from benchmarks import http_load
from benchmarks.contest import Contest, Contestant, hold
from benchmarks.environments import PEERS, peer_python, peer_versions
from benchmarks.events import events_file, model_file
from benchmarks.machine import versions_of
from benchmarks.pages import ten_pages
from benchmarks.process import WORK
from benchmarks.project import open_payments, warm_up
from benchmarks.result import Bar, Figure, Result

WHAT = (
    "POST of an event: 12 window features, XGBoost (100 trees, depth 6), decision committed at power, answer. Open-loop, times from "
    "when a request was due. Feast is pushed one row of 12 values, computed already, and asked for it, one request after the other; "
    "MLflow's scoring server gets the 13 values of one row, and stores nothing."
)
SECONDS = 60
EVENTS = 400_000
BATCH = 100
START_S = 120.0
PORT = 8461
SCORE = "/v1/endpoints/checkout/score"
URL = f"http://127.0.0.1:{PORT}"
PAGES = {"penstock with ten pages open": "held", "penstock with ten pages in a browser": "drawn"}
"""How pages are open, by contestant."""

SETTLE_S = 15.0
"""What starts beside a server has started then, the browser's pages, too."""


@dataclass(frozen=True, slots=True)
class Load:
    """A load: requests a second (0: as fast as they are answered), connections, events in a request."""

    rate: float
    connections: int
    batch: int = 1


LOADS = {
    "500/s": Load(500, 64),
    "64 connections": Load(0, 64),
    f"{BATCH} events a request": Load(0, 16, BATCH),
    "push and read, 20/s": Load(20, 8),
    "one row, 50/s": Load(50, 8),
}


def turn(contestant: str, load: str, seconds: float) -> dict[str, Any]:
    """Start a contestant's server, put a load on it, and report."""
    servers = {"penstock": _penstock, "feast": _feast, "mlflow": _mlflow} | dict.fromkeys(PAGES, _penstock)
    with servers[contestant](LOADS[load]) as plans:
        with ten_pages(URL, PAGES[contestant]) if contestant in PAGES else nullcontext():
            time.sleep(SETTLE_S)
            is_ours, warm = servers[contestant] is _penstock, dict[float, float]()
            first_tenth = Timer(
                seconds / 10, lambda: warm.update(score_counts())
            )  # warms up, as for the clients
            if is_ours:
                first_tenth.start()
            reports = [_put_on(plan, LOADS[load], seconds) for plan in plans]
        own = {"server_p99_ms": server_p99_ms(warm, score_counts())} if is_ours else {}
    failed = sum(report["failed"] for report in reports)
    if failed:
        raise SystemExit(f"{failed} requests failed: {[report['statuses'] for report in reports]}")
    # A push and a read follow each other, so their times add up.
    summed = {name: sum(report[name] for report in reports) for name in ("p50_ms", "p99_ms", "p99.9_ms")}
    return summed | own | {"per_s": min(report["per_s"] for report in reports) * LOADS[load].batch}


def score_counts() -> dict[float, float]:
    """How many scores the server has answered within each of the bounds, seconds, of its histogram on ``/metrics``."""
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(f"{URL}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        float(sample.labels["le"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "penstock_http_request_duration_seconds_bucket"
        and sample.labels["route"] == "/v1/endpoints/{endpoint}/score"
    }


def server_p99_ms(before: Mapping[float, float], after: Mapping[float, float]) -> float:
    """The server's own time of a score, from the last byte of its headers to the last of its answer, in 99 of 100 cases.

    Of those between two readings of `score_counts`; interpolated between the bounds, as Prometheus does it.
    """
    counts = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
    wanted, below, reached = 0.99 * max(counts.values()), 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= wanted:
            return 1e3 * (below + (bound - below) * (wanted - reached) / (count - reached))
        below, reached = bound, count
    raise SystemExit("the server counted no scores")


def _put_on(plan: dict[str, Any], load: Load, seconds: float) -> dict[str, Any]:
    whole = plan | {"rate": load.rate, "connections": load.connections, "seconds": seconds}
    return http_load.main(whole | {"headers": {"Content-Type": "application/json"}})


@contextmanager
def _penstock(load: Load) -> Iterator[list[dict[str, Any]]]:
    folder = WORK / "serving.project"
    runtime = open_payments(folder, model=model_file(), durability="power")
    warm_up(runtime, batches=(1, 1, 1, 100))
    runtime.close()
    lines = events_file(EVENTS).read_bytes().splitlines()
    groups = [lines[i : i + load.batch] for i in range(0, len(lines), load.batch)]
    bodies = [group[0] if load.batch == 1 else b"[" + b",".join(group) + b"]" for group in groups]
    code = "from penstock.cli.main import app; app()"
    command = [sys.executable, "-c", code, "up", "--port", str(PORT)]
    with _server(command, cwd=folder, ready="/health/ready"):
        yield [_plan(SCORE, bodies)]


@contextmanager
def _feast(_load: Load) -> Iterator[list[dict[str, Any]]]:
    script = PEERS / "feast/serving.py"
    folder = WORK / "serving-feast"
    values = {f"f{i}": [float(i)] for i in range(12)}
    pushes = [
        {
            "push_source_name": "pushed",
            "df": {"card_id": [f"c{i % 5000}"], "at": ["2026-01-01T00:00:00+00:00"], **values},
            "to": "online",
        }
        for i in range(20_000)
    ]
    reads = [
        {"features": [f"card:f{i}" for i in range(12)], "entities": {"card_id": [f"c{number % 5000}"]}}
        for number in range(20_000)
    ]
    with _server([peer_python("feast"), script, folder, str(PORT)], cwd=WORK, ready="/health"):
        yield [
            _plan("/push", [json.dumps(one).encode() for one in pushes], "pushes"),
            _plan("/get-online-features", [json.dumps(one).encode() for one in reads], "reads"),
        ]


@contextmanager
def _mlflow(_load: Load) -> Iterator[list[dict[str, Any]]]:
    import shutil

    import mlflow.xgboost
    from xgboost import XGBClassifier

    folder = WORK / "serving-mlflow"
    shutil.rmtree(folder, ignore_errors=True)
    estimator = XGBClassifier(n_jobs=1)
    estimator.load_model(model_file())
    mlflow.xgboost.save_model(estimator, folder, pip_requirements=[])
    names = [f"f{i}" for i in range(13)]
    bodies = [
        json.dumps({"dataframe_split": {"columns": names, "data": [[float(i % 90), *[1.0] * 12]]}}).encode()
        for i in range(20_000)
    ]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    with _server([*command, "--port", str(PORT), "--workers", "1"], cwd=WORK, ready="/ping"):
        yield [_plan("/invocations", bodies)]


@contextmanager
def _server(command: Sequence[str | Path], *, cwd: Path, ready: str) -> Iterator[None]:
    """A server while it is needed; with all that it started."""
    log, beside = WORK / "serving.log", Path(sys.executable).parent  # MLflow looks for uvicorn by name
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={
                **os.environ,
                "PENSTOCK_ENGINE__DURABILITY": "power",
                "PATH": f"{beside}:{os.environ['PATH']}",
            },
        )
    try:
        _await(f"{URL}{ready}", process, log)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"the server did not start: {log.read_text(errors='replace')[-400:]}")


def _plan(path: str, bodies: Sequence[bytes], name: str = "bodies") -> dict[str, Any]:
    file = WORK / f"serving-{name}.txt"
    file.write_bytes(b"\n".join(bodies))
    return {"url": URL, "path": path, "bodies": str(file)}


TURNS = {
    "Penstock, 500/s": ("penstock", "500/s", 1.0),
    "Penstock, 500/s, ten pages open": ("penstock with ten pages open", "500/s", 1.0),
    "Penstock, 500/s, ten pages drawn beside": ("penstock with ten pages in a browser", "500/s", 1.0),
    "Penstock, 64 connections": ("penstock", "64 connections", 0.25),
    "Penstock, batches of 100": ("penstock", f"{BATCH} events a request", 0.15),
    "Feast, push and read, 20/s": ("feast", "push and read, 20/s", 0.25),
    "MLflow scoring server, 50/s": ("mlflow", "one row, 50/s", 0.25),
}
BARS = (
    ("500/s, p50", "Penstock, 500/s", "p50_ms", 2, "ms", True),
    ("500/s, p99", "Penstock, 500/s", "p99_ms", 8, "ms", True),
    ("500/s, the server's own time, p99", "Penstock, 500/s", "server_p99_ms", 1, "ms", True),
    ("single events, 64 connections", "Penstock, 64 connections", "per_s", 4_000, "/s", False),
    ("events in batches of 100", "Penstock, batches of 100", "per_s", 40_000, "/s", False),
)

FIGURES = {
    "p50_ms": ("p50", "ms"),
    "p99_ms": ("p99", "ms"),
    "server_p99_ms": ("the server's own time, p99", "ms"),
    "per_s": ("a second", "/s"),
}


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """Everybody in turns."""
    contestants = [
        Contestant(name, _command(who, load, SECONDS * part * scale))
        for name, (who, load, part) in TURNS.items()
    ]
    contest = hold(contestants, say)
    peers = peer_versions("feast") if "Feast, push and read, 20/s" in contest.runs else {}
    return Result(
        benchmark="serving",
        what=WHAT,
        figures=tuple(_figures(contest)),
        bars=(
            *(
                Bar(what, _value(contest, name, value), limit, unit, at_most=at_most)
                for what, name, value, limit, unit, at_most in BARS
            ),
            Bar("500/s, p99 with ten pages open", _with_pages(contest), 1.2, "× without", at_most=True),
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "fastapi", "uvicorn", "uvloop", "mlflow", "xgboost-cpu") | peers,
    )


def _command(contestant: str, load: str, seconds: float) -> Callable[[], list[str | Path]]:
    return lambda: [sys.executable, "-m", "benchmarks.serving", contestant, load, str(seconds)]


def _figures(contest: Contest) -> Iterator[Figure]:
    for name, runs in contest.runs.items():
        for value, (label, unit) in FIGURES.items():
            if value in runs[0].report:
                yield Figure.median(f"{name}, {label}", unit, [run.report[value] for run in runs])


def _value(contest: Contest, name: str, value: str) -> float | None:
    runs = contest.runs.get(name)
    return None if not runs else float(runs[0].report[value])


def _with_pages(contest: Contest) -> float | None:
    """How many times the p99 it is when ten pages are open."""
    values = [_value(contest, f"Penstock, 500/s{more}", "p99_ms") for more in (", ten pages open", "")]
    return None if values[0] is None or values[1] is None else values[0] / values[1]


if __name__ == "__main__":
    print(json.dumps(turn(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
