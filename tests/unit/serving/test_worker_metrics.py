"""A worker's /metrics: each shard by its label, and nobody who may not read them."""

import json
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.api_keys import create_key
from penstock.app.stage_worker import ShardStatus
from penstock.app.worker import WorkerStatus
from penstock.cli.main import app
from penstock.core.clock import SystemClock
from penstock.core.errors import SettingsError
from penstock.serving.worker_metrics import WorkerMetrics, serving_metrics
from tests.unit.app.arms import events, write_project


@pytest.fixture
def served(tmp_path):
    """Two shards with three and four events, and where their metrics are."""
    root, shown, shards, status = write_project(tmp_path), WorkerMetrics(), {}, {}
    try:
        for number, count in ((0, 3), (2, 4)):
            runtime = Runtime.open(root, shard=str(number))
            shards[number] = SimpleNamespace(number=number, runtime=runtime)
            status[str(number)] = ShardStatus(count, 10 * number)
            note = shown.observing(runtime)
            note(runtime.process([("payments", runtime.decode("payments", events(0, count)))]), 0.0)
            runtime.engine.flush()
        stages = [SimpleNamespace(name="", shards=shards)]
        worker = SimpleNamespace(
            stages=stages, source="payments", status=WorkerStatus(1, status, [], {}), is_ready=False
        )
        shown.show(worker)
        with serving_metrics(root, shown, port=0) as url:
            yield root, url, shown, worker
    finally:
        for shard in shards.values():
            shard.runtime.close(snapshot=False)


def asked(url, **headers):
    with urlopen(Request(url, headers=headers), timeout=5) as answer:
        return answer.read().decode()


def refused(url, **headers):
    with pytest.raises(HTTPError) as caught:
        asked(url, **headers)
    with caught.value as answer:
        return answer.code


def by_shard(text, name):
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return {one.labels["shard"]: one.value for one in samples if one.name == name}


def test_each_shard_has_its_own_numbers(served):
    text = asked(served[1])
    assert by_shard(text, "penstock_log_rows") == {"0": 3, "2": 4}
    assert by_shard(text, "penstock_events_received_total") == {"0": 3, "2": 4}
    assert by_shard(text, "penstock_build_info") == {"0": 1, "2": 1}
    assert by_shard(text, "penstock_input_lag_messages") == {"0": 0, "2": 20}
    assert "process_cpu_seconds_total" in text


def test_a_family_stands_once(served):
    names = [line.split()[2] for line in asked(served[1]).splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_who_may_not_read_them_gets_none(served):
    root, url, shown, _ = served
    assert refused(url, Host="shop.example:80") == 403
    assert refused(url, **{"X-Forwarded-For": "10.0.0.1"}) == 403
    assert refused(url.replace("/metrics", "/")) == 404
    keys = {
        scope: create_key(root, scope, [scope], actor="ann", reason="test", clock=SystemClock())[1]
        for scope in ("read", "score")
    }
    with serving_metrics(root, shown, port=0) as url:
        assert refused(url) == 401
        assert refused(url, Authorization="Bearer pst_unknown_key") == 401
        assert refused(url, Authorization=f"Bearer {keys['score']}") == 403
        assert "penstock_log_rows" in asked(url, Authorization=f"Bearer {keys['read']}")


def test_everybody_may_ask_whether_it_is_ready(served):
    _, url, _, worker = served
    url = url.replace("/metrics", "/health/ready")
    assert refused(url, Host="10.0.0.7:8000") == 503
    worker.is_ready = True
    assert asked(url, Host="10.0.0.7:8000") == "OK"


def test_a_shard_is_audited_by_itself(served):
    command = ["audit", "--shard", "2", "--project", str(served[0]), "--json"]
    result = CliRunner().invoke(app, command)
    assert json.loads(result.stdout)["clean"] is True
    assert json.loads(result.stdout)["vectors"] == 4


def test_others_get_in_with_keys_only(tmp_path, monkeypatch):
    monkeypatch.setenv("PENSTOCK_SERVE__HOST", "0.0.0.0")
    with pytest.raises(SettingsError, match="no keys"), serving_metrics(tmp_path, WorkerMetrics(), port=0):
        pass
