"""Retraining by Airflow 3: cut, train, gate, promote, reload. Copy this file into Airflow's folder of DAGs.

Each task is a command of Penstock, so the rules are those of ``penstock retrain``, and Airflow needs Penstock in no environment of its own:
only the command, on the machine that holds the project. Set these Airflow variables, or environment variables of the same meaning:

=================================  ==================================  =================================================
Airflow variable                   environment                         meaning (default)
=================================  ==================================  =================================================
``penstock_project``               ``AIRFLOW_VAR_PENSTOCK_PROJECT``    the project's folder (required)
``penstock_model``                 ``AIRFLOW_VAR_PENSTOCK_MODEL``      the model's name (``fraud``)
``penstock_command``               ``AIRFLOW_VAR_PENSTOCK_COMMAND``    the command (``penstock``)
``penstock_url``                   ``AIRFLOW_VAR_PENSTOCK_URL``        where the engine is served; empty: do not wait for it
``penstock_alert_url``             ``AIRFLOW_VAR_PENSTOCK_ALERT_URL``  where a failure is posted as JSON; empty: nowhere
=================================  ==================================  =================================================

Turn the built-in loop off for the same model (leave out ``retraining=``), or both will train.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Asset, Variable, dag, task

LABELS = Asset("penstock://labels")
"""Whoever loads labels says so by updating this asset, and a retraining begins."""
TRAINING_SET = Asset("penstock://training_set")
CHAMPION = Asset("penstock://champion")
RETRIES = {
    "retries": 2,
    "retry_delay": timedelta(seconds=float(os.environ.get("PENSTOCK_RETRY_SECONDS", "60"))),
}
RECORDED = 400  # characters of an error that the journal keeps


class StepError(RuntimeError):
    """A command of Penstock ended with an error."""


def step(name: str, *options: str, project: bool = True) -> dict[str, Any]:
    """Run one step and return what it says."""
    where = ["--project", Variable.get("penstock_project")] if project else []
    command = [Variable.get("penstock_command", default="penstock"), "retraining", name]
    done = subprocess.run(
        [*command, *options, *where, "--json"], capture_output=True, text=True, timeout=3 * 3600, check=False
    )
    print(done.stderr)  # progress, into the task's log
    if done.returncode:
        raise StepError(f"penstock retraining {name} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def model() -> str:
    """The model that is trained."""
    return str(Variable.get("penstock_model", default="fraud"))


def alert(context: Any) -> None:
    """Post that a run failed; Penstock's own alerts see the failed attempt in its journal as well."""
    url = Variable.get("penstock_alert_url", default="")
    if not url:
        return
    told = {"alert": "retraining failed", "model": model(), "run": context.get("run_id")}
    request = urllib.request.Request(
        url, json.dumps(told).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


@dag(
    schedule=[LABELS],
    start_date=datetime(2026, 1, 1),  # noqa: DTZ001 - Airflow takes it for UTC
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    on_failure_callback=alert,
    tags=["penstock"],
    doc_md=__doc__,
)
def penstock_retraining() -> None:
    """Cut, train, gate, promote, reload."""

    @task(outlets=[TRAINING_SET], retries=0)  # an attempt is begun once
    def cut(run_id: str | None = None) -> dict[str, Any]:
        return step("cut", model(), "--reason", f"Airflow, run {run_id}")

    @task
    def train(begun: dict[str, Any]) -> dict[str, Any]:
        dataset = [] if begun["dataset"] is None else ["--dataset", begun["dataset"]]
        return step("train", model(), "--attempt", str(begun["attempt"]), *dataset)

    @task
    def gate(trained: dict[str, Any]) -> dict[str, Any]:
        options = ["--attempt", str(trained["attempt"]), "--version", str(trained["version"])]
        return {**trained, **step("gate", model(), *options)}

    @task(outlets=[CHAMPION])
    def promote(judged: dict[str, Any]) -> dict[str, Any]:
        options = ["--attempt", str(judged["attempt"]), "--version", str(judged["version"])]
        return step("promote", model(), *options, "--gate", judged["gate"])

    @task
    def reload(placed: dict[str, Any]) -> str:
        url = Variable.get("penstock_url", default="")
        if placed["outcome"] != "promoted" or not url:
            return f"nothing to wait for: {placed['outcome']}, {placed['why']}"
        step("reload", placed["version"], "--url", url, "--seconds", "300", project=False)
        return f"{placed['version']} decides"

    @task(trigger_rule="one_failed", retries=0)
    def give_up(begun: dict[str, Any]) -> None:
        """Note in Penstock's journal that the attempt failed; fails itself, so that the run counts as failed."""
        step(
            "give-up",
            model(),
            "--attempt",
            str(begun["attempt"]),
            "--reason",
            "a step failed in Airflow; its log says why",
        )
        raise StepError("a step before this one failed")

    begun = cut()
    trained = train(begun)
    judged = gate(trained)
    placed = promote(judged)
    reloaded = reload(placed)
    [trained, judged, placed] >> give_up(begun)
    del reloaded


penstock_retraining()
