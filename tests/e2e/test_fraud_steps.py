"""The four steps of the fraud example, one after another as a reader takes them, on a tiny world; then once more with another model."""

import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime

import httpx
import pyarrow.parquet as pq
import pytest

from examples.fraud import steps
from examples.fraud.population import SimulatorConfig
from examples.fraud.world import HERE, World
from penstock.app.route_watch import running_notes
from penstock.app.runtime import registry_of
from tests.e2e.test_live_data import penstock

TINY = SimulatorConfig(customers=300, terminals=1_500, radius=9.0)
PATIENCE_S = 120


@pytest.fixture
def take(tmp_path, monkeypatch, capsys):
    """Takes a step; what it printed."""
    source = tmp_path / "source"
    source.mkdir()
    for name in steps.DEFINITIONS:
        shutil.copy(HERE / name, source / name)
    monkeypatch.setattr(steps, "HERE", source)
    monkeypatch.setattr(steps, "SMALL", TINY)

    def take(step, *more):
        code = steps.main([step, "--small", "--folder", str(tmp_path / "project"), *more])
        told = capsys.readouterr()
        assert code == 0, told
        return told.out

    return take


def until(true):
    end = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def test_the_steps_show_two_models_side_by_side(take, tmp_path):
    folder = tmp_path / "project"
    told = take("feature-pipeline")
    assert "http://127.0.0.1:8000/features" in told
    assert "make dashboard" in told
    features = pq.read_table(folder / "features.parquet")
    assert features.num_rows == steps.NEWEST
    assert len([name for name in features.column_names if "__" in name]) == 15
    assert "Nothing new" in take("feature-pipeline")

    assert "/models/xgboost" in take("model")
    assert [one.stage for one in registry_of(folder).versions("xgboost")] == ["Production"]

    with (tmp_path / "log").open("wb") as log, penstock(folder, "up", "--port", "0", stderr=log) as running:
        try:
            url = until(lambda: (notes := running_notes(folder)) and notes.url)
            until(lambda: httpx.get(f"{url}/health/ready").status_code == 200)
            told = take("live-data", "--rate", "60", "--seconds", "3")
            assert f"{url}/decisions" in told
            assert newest(url)["model"] == "xgboost:1"
            assert datetime.now(UTC).date() == datetime.fromisoformat(newest(url)["event_time"]).date()  # noqa: TID251

            definitions = tmp_path / "source" / "steps_definitions.py"
            text = definitions.read_text()
            definitions.write_text(
                text.replace('model_name = "xgboost"', 'model_name = "logistic_regression"')
            )
            told = take("model")
            assert f"{url}/compare" in told
            until(lambda: served(url) == "logistic_regression")
            take("live-data", "--rate", "60", "--seconds", "3")
            assert newest(url)["model"] == "logistic_regression:1"
            page = httpx.get(f"{url}/compare", headers={"accept": "text/html"}, timeout=30).text
            assert {"xgboost:1", "logistic_regression:1"} <= set(re.findall(r"[a-z_]+:1", page))
        finally:
            running.terminate()
            running.wait(60)


def newest(url):
    return httpx.get(f"{url}/v1/decisions?limit=1", timeout=30).json()["items"][0]


def served(url):
    return httpx.get(f"{url}/v1/endpoints/checkout", timeout=30).json()["model"]


def test_payments_are_parted_at_now_and_nobody_knows_a_label_too_early(tmp_path):
    now_us = 1_763_800_000_000_000
    found = steps.part(World(TINY, tmp_path), now_us)
    times = [steps._us(table["timestamp"]) for table in (found.past, found.live)]
    assert times[0].max() <= now_us < times[1].min()
    assert now_us - times[0].max() < 3600 * 10**6
    assert steps._us(found.past_labels["reported_at"]).max() <= now_us
    assert steps._us(found.live_labels["reported_at"]).min() > now_us
    assert found.past_labels.num_rows > 0.8 * found.past.num_rows - 20_000
    assert not set(found.past["transaction_id"].to_pylist()) & set(found.live["transaction_id"].to_pylist())


def test_a_step_that_is_none_is_told():
    with pytest.raises(SystemExit):
        steps.main(["deploy"])


def test_each_step_is_a_target():
    makefile = (HERE / "Makefile").read_text("utf-8")
    listed = subprocess.run(["make", "-C", str(HERE)], capture_output=True, text=True, check=True).stdout
    for step in steps.STEPS:
        assert re.search(rf"^{step}: ## ", makefile, re.MULTILINE)
        assert f"make {step} " in listed
    shown = subprocess.run(
        ["make", "-n", "-C", str(HERE), "model", f"PYTHON={sys.executable}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "examples.fraud.steps model" in shown
