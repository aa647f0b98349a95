"""History and data sets on the command line, as a user comes upon them: run, train, more data, the same set again."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from tests.e2e.test_cli import run, run_json


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline")
    run(folder, "init", "shop")
    project = folder / "shop"
    run_json(project, "run")
    said = {"status": run_json(project, "offline", "status")}
    said["train"] = run_json(project, "train", "fraud")
    said["first"] = run_json(
        project, "dataset", "rebuild", said["train"]["dataset"], "--output", "first.parquet"
    )
    run(project, "registry", "promote", "fraud", "1")
    run_json(project, "run", "payments=data/next_week.ndjson")
    return project, said


def test_run_exports_to_its_end(story):
    project, said = story
    rows = {t["name"]: t["rows"] for t in said["status"]["tables"]}
    assert rows["events/payments"] == rows["decisions/checkout"] == rows["features/checkout"] == 4200
    assert rows["labels/chargebacks"] > 3000
    assert {t["exported"] for t in said["status"]["tables"]} == {said["status"]["position"]}
    again = run_json(project, "offline", "sync")
    assert again["rows"] == {}
    rows = {t["name"]: t["rows"] for t in run_json(project, "offline", "status")["tables"]}
    assert rows["features/checkout"] == 5250


def test_the_model_names_its_data_set(story):
    project, said = story
    shown = run_json(project, "registry", "show", "fraud", "1")
    assert shown["manifest"]["dataset"] == said["train"]["dataset"]
    (listed,) = run_json(project, "dataset", "list")
    assert listed["id"] == said["train"]["dataset"]
    assert listed["question"]["label"] == "chargebacks"


def test_the_same_bytes_come_back_after_more_data(story):
    project, said = story
    run_json(project, "offline", "compact")
    run_json(project, "offline", "vacuum", "--retention-hours", "0")
    again = run_json(project, "dataset", "rebuild", said["train"]["dataset"], "--output", "again.parquet")
    assert {**again, "output": None} == {**said["first"], "output": None}
    assert (project / "again.parquet").read_bytes() == (project / "first.parquet").read_bytes()
    table = pq.read_table(project / "again.parquet")
    assert table.num_rows == again["rows"] == 4200
    assert {"_position", "_label", "_label_known_at"} <= set(table.column_names)


def test_tables_fit_80_columns_and_name_the_next_step(story):
    project, said = story
    dataset = said["train"]["dataset"]
    for command in (
        ("offline", "status"),
        ("offline", "sync"),
        ("offline", "vacuum", "--dry-run"),
        ("dataset", "list"),
        ("dataset", "show", dataset),
        ("dataset", "rebuild", dataset),
    ):
        text = run(project, *command)
        assert max(map(len, text.splitlines())) <= 80, text
        assert "Next: penstock" in text


def test_a_forgotten_key_ends_the_data_set(story):
    project, said = story
    card = pq.read_table(project / "first.parquet").column("card_id")[0].as_py()
    done = run_json(project, "forget", card, "--entity", "card", "--yes")
    assert done["datasets"] == [said["train"]["dataset"]]
    assert done["offline_rows"] >= 3 * done["events"]
    run(project, "dataset", "rebuild", said["train"]["dataset"], code=3)
    assert "no: a key that it held was forgotten" in run(project, "dataset", "show", said["train"]["dataset"])
