"""The DAG for Airflow, run by Airflow's own ``dags test`` beside a served project."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from penstock.app.retraining_journal import Journal
from penstock.app.runtime import audit_log_of, registry_of
from tests.external_environments import environment_python
from tests.unit.app.fraud_shop import Feed, write_project

pytestmark = pytest.mark.early
ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 400
FLAKY = """#!{python}
import os, pathlib, subprocess, sys
mark = pathlib.Path({mark!r})
if sys.argv[2] == "train" and len(tries := mark.read_text()) < {failures}:
    mark.write_text(tries + "x")
    sys.exit("the disk is away")
sys.exit(subprocess.call([{penstock!r}, *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Airflow with a database of its own and the DAG; returns its command and environment."""
    python = environment_python("airflow")
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    shutil.copy(ROOT / "deploy/airflow/penstock_retraining.py", home / "dags")
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "PENSTOCK_RETRY_SECONDS": "0",
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
    }
    command = [python, "-m", "airflow"]
    ran(["db", "migrate"], command, env)
    return command, env


def ran(arguments, command, env):
    """How a command of Airflow ended, and what it said; a limit of its own, so that a run that hangs says where."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*command, *arguments], env=env, stdout=said, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        said.seek(0)
        return code, said.read()


@pytest.fixture
def project(tmp_path):
    from penstock.app import Runtime

    folder = tmp_path / "shop"
    folder.mkdir()
    write_project(folder)
    definitions = folder / "definitions.py"
    text = definitions.read_text().replace("retraining=Retraining(cooldown=timedelta(0)),", "")
    assert "Retraining(" not in text
    definitions.write_text(text)  # Airflow trains, and nobody else
    with Runtime.open(folder) as runtime:
        Feed(runtime).send(2 * 720)
    return folder


@pytest.fixture
def served(project):
    """The project's address while ``penstock up`` serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [penstock(), "up", "--port", str(port), "--project", str(project)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                httpx.get(f"{url}/v1/endpoints").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def alerts():
    """What was posted to an address, and the address."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield posted, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def penstock():
    return str(Path(sys.executable).with_name("penstock"))


def flaky(folder, *, failures):
    """The command `penstock`, whose training fails so many times."""
    (folder / "tries").write_text("")
    script = folder / "flaky"
    values = {
        "python": sys.executable,
        "mark": str(folder / "tries"),
        "penstock": penstock(),
        "failures": failures,
    }
    script.write_text(FLAKY.format(**values))
    script.chmod(0o755)
    return str(script)


def dag_run(airflow, project, **variables):
    command, env = airflow
    given = {"project": project, "command": penstock(), "model": "fraud", **variables}
    env = env | {f"AIRFLOW_VAR_PENSTOCK_{name.upper()}": str(value) for name, value in given.items()}
    return ran(["dags", "test", "penstock_retraining"], command, env)


def attempts(project):
    return Journal(audit_log_of(project), "fraud").attempts()


def test_a_version_is_trained_in_spite_of_a_failure_judged_promoted_and_taken_over(
    airflow, project, served, tmp_path
):
    code, said = dag_run(airflow, project, url=served, command=flaky(tmp_path, failures=1))
    assert code == 0, said[-6000:]
    (attempt,) = attempts(project)
    assert attempt.outcome == "promoted", said[-6000:]
    assert attempt.why.startswith("Airflow, run ")
    (version,) = registry_of(project).versions("fraud")
    assert version.stage == "Production"
    (endpoint,) = httpx.get(f"{served}/v1/endpoints").json()["items"]
    assert [arm["serving"] for arm in endpoint["arms"]] == [version.label]


def test_a_training_that_fails_for_good_is_noted_and_told(airflow, project, alerts, tmp_path):
    posted, url = alerts
    _, said = dag_run(airflow, project, alert_url=url, command=flaky(tmp_path, failures=9))
    (attempt,) = attempts(project)
    assert attempt.outcome == "failed", said[-6000:]
    assert not registry_of(project).versions("fraud")
    assert [one["alert"] for one in posted] == ["retraining failed"], said[-6000:]
