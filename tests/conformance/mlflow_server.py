"""MLflow for all suites: a database of its own, and a real server over HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conformance.missing import missing

PATIENCE_S = 120


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """A database of MLflow's; making one takes seconds, so all tests share it."""
    if find_spec("mlflow") is None:
        missing("mlflow is not installed")
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def server(database):
    """A real server over HTTP, which alone touches database and files."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{database}/server.db", "--artifacts-destination", str(database / "artifacts"),
    ]  # fmt: skip
    # Seven processes that would wait for jobs of its own are left out.
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (database / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=database, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            # Asked politely it takes its time; its files are ours. Its worker is in a session of its own.
            for pid in family(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait(30)


def family(pid):
    """A process, its children and theirs, the youngest first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*(one for child in children for one in family(int(child))), pid]


def wait_for(address, process):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("the server did not come up")
