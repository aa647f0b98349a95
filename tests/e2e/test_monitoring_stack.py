"""What is deployed to watch a project, against a project that runs, a real Prometheus and a real Alertmanager."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import yaml

from services.prometheus import Prometheus
from tests.e2e.watched_project import Traffic, make, running
from tests.services import needs

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
CHOICE = re.compile(r"\$(job|endpoint|source|model)\b")
COMPARED = re.compile(r"(.*) [<>] [0-9.e]+", re.DOTALL)

pytestmark = pytest.mark.early


def queries():
    """Every query of every panel, with what Grafana puts in for its variables."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                expr = CHOICE.sub(".*", target["expr"]).replace("$__rate_interval", "30s")
                yield f"{path.stem}: {panel['title']} {target['refId']}", expr


def rules():
    """Every rule: what a recording rule records, what an alert compares."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    yield f"rule {rule['record']}", rule["record"]
                else:
                    yield f"alert {rule['alert']}", COMPARED.fullmatch(rule["expr"].strip())[1]


class Own(Prometheus):
    """A server of this test's own: what others scraped before must not be taken for ours."""

    def __init__(self, folder):
        self._own = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    port = property(lambda self: self._port)
    folder = property(lambda self: self._own)

    def ask(self, expr):
        answer = httpx.get(f"{self.address}/api/v1/query", params={"query": expr}, timeout=10).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        return [float(one["value"][1]) for one in answer["data"]["result"]]


@pytest.fixture
def prometheus(tmp_path):
    server = Own(tmp_path / "prometheus")
    server.start()
    yield server
    server.stop()
    server.pid_file.with_suffix(".lock").unlink()


def without_a_number(server, asked):
    """The queries that give no series, or none with a number in it."""
    return {name: expr for name, expr in asked if not any(x == x for x in server.ask(expr))}


@needs("prometheus")
def test_every_panel_and_every_rule_finds_series_in_a_running_project(tmp_path, prometheus):
    folder = tmp_path / "shop"
    world = make(folder)
    with running(folder) as url, httpx.Client(base_url=url, timeout=60) as client:
        prometheus.aim("penstock", url.removeprefix("http://"))
        traffic = Traffic(folder, client, world)
        empty = dict(rules()) | dict(queries())
        assert len(empty) > 100
        end = time.monotonic() + 60
        while empty and time.monotonic() < end:
            traffic.send(3)
            empty = without_a_number(prometheus, empty.items())
        wrong = prometheus.ask("count(ALERTS{alertname=~'PenstockAudit.*|PenstockDown'}) or vector(0)")
    assert not empty, "\n".join(f"{name}: {expr}" for name, expr in empty.items())
    assert wrong == [0]


class Inbox(BaseHTTPRequestHandler):
    """What a webhook is told."""

    def do_POST(self):
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Nothing on stderr."""


class Page(BaseHTTPRequestHandler):
    """A target with one alarming metric."""

    def do_GET(self):
        body = b'penstock_alert_messages{alert="big",state="dead"} 2\n'
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    log_message = Inbox.log_message


def serving(handler, port=0):
    server = HTTPServer(("127.0.0.1", port), handler)
    server.told = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_an_alert_reaches_the_webhook(prometheus, alertmanager):
    inbox = serving(Inbox, int(alertmanager.webhook.rsplit(":", 1)[1].strip("/")))
    page = serving(Page)
    try:
        prometheus.aim("penstock-worker", f"127.0.0.1:{page.server_port}")
        end = time.monotonic() + 60
        while not inbox.told and time.monotonic() < end:
            time.sleep(0.1)
        alert = inbox.told[0]["alerts"][0]
    finally:
        for server in (inbox, page):
            server.shutdown()
            server.server_close()
    assert alert["labels"]["alertname"] == "PenstockAlertsUndelivered"
    assert alert["labels"]["job"] == "penstock-worker"
    assert alert["annotations"]["summary"] == "messages of the alert big were given up"


@needs("promtool")
def test_the_rules_do_what_their_tests_say():
    done = subprocess.run(
        ["promtool", "test", "rules", "penstock_test.yml"],
        cwd=DEPLOY / "prometheus" / "tests",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_and_says_what_to_do():
    alerts = [
        rule for path in RULES for g in yaml.safe_load(path.read_text())["groups"] for rule in g["rules"]
    ]
    alerts = [rule for rule in alerts if "alert" in rule]
    tested = (DEPLOY / "prometheus" / "tests" / "penstock_test.yml").read_text()
    for alert in alerts:
        assert f"alertname: {alert['alert']}\n" in tested, alert["alert"]
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert set(alert["annotations"]) == {"summary", "action"}


def test_every_metric_that_is_asked_for_is_in_the_catalog():
    from penstock.serving.metric_catalog import METRICS

    texts = [path.read_text() for path in (*DASHBOARDS, *RULES)]
    asked = {name for text in texts for name in re.findall(r"\bpenstock_[a-z_]+[a-z]\b", text)}
    histograms = {f"{m.name}_{end}" for m in METRICS.values() for end in ("bucket", "count", "sum")}
    recorded = {name.split(":")[1] for _, name in rules() if name.count(":") == 2}
    assert asked - set(METRICS) - histograms - recorded == set()


def test_the_dashboards_are_what_the_code_builds():
    if find_spec("grafana_foundation_sdk") is None:
        pytest.skip("grafana-foundation-sdk is not installed: make setup")
    done = subprocess.run(
        [sys.executable, "-m", "deploy.dashboards", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
