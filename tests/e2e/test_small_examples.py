"""The small examples, as their one command runs them."""

from itertools import pairwise
from pathlib import Path

import pytest

import examples.crypto.__main__ as crypto
import examples.ctr.__main__ as ctr
import examples.sensors.__main__ as sensors
from examples.crypto.market import write as write_market
from examples.sensors.machines import write as write_machines
from penstock.definitions.project import load_project


def test_clicks_are_found_better_than_by_chance_and_not_better_than_possible(tmp_path, capsys):
    assert ctr.main(["--count", "12000", "--folder", str(tmp_path / "ctr")]) == 0
    found = ctr.compare(tmp_path / "ctr", 12_000)
    best, chance = found["the world itself"], found["no model"]
    for model in ctr.MODELS:
        assert chance[0] < found[model][0] < best[0]
        assert chance[1] < found[model][1] < best[1]
    assert "12,000 scored" in capsys.readouterr().out


def test_prices_are_walked_forward_and_held_against_the_naive_forecast(tmp_path, capsys):
    folder = tmp_path / "crypto"
    assert crypto.main(["--folder", str(folder)]) == 0
    found = crypto.compare(folder, write_market(tmp_path / "again"))
    assert all(model == pytest.approx(naive, rel=0.05) for naive, model in found)
    assert sum(model < naive for naive, model in found) == 2  # as its README says: one fold loses
    assert "34,560 scored" in capsys.readouterr().out
    splits = [load_project(folder).models[f"fold_{number}"].split for number in crypto.FOLDS]
    assert all(later.start - earlier.start == earlier.test for earlier, later in pairwise(splits))


@pytest.mark.parametrize("name", ["ctr", "crypto", "sensors"])
def test_a_readme_names_the_command(name):
    readme = Path(f"examples/{name}/README.md").read_text("utf-8")
    assert f"python -m examples.{name} " in readme


def test_faults_are_found_by_a_detector_that_nobody_told_of_them(tmp_path, capsys):
    folder = tmp_path / "sensors"
    assert sensors.main(["--folder", str(folder)]) == 0
    found = sensors.compare(folder, write_machines(tmp_path / "again"))
    ours, trees = found["neighbours"], found["trees"]
    assert ours["alarms"][0]["nab"] > 35
    assert trees["alarms"][0]["nab"] < 10
    assert ours["alarms"][0]["found"] >= 20
    assert ours["alarms"][0]["windows"] == 28
    assert ours["kinds"]["decoupled"] == (5, 5)  # each sensor alone looks well
    assert (folder / "reports" / "neighbours-1" / "scores.png").stat().st_size > 10_000
    assert "32,256 scored" in capsys.readouterr().out
