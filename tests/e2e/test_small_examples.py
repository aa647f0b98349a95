"""The small examples, as their one command runs them."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import examples.crypto.__main__ as crypto
import examples.ctr.__main__ as ctr
import examples.sensors.__main__ as sensors
from examples.crypto.market import write as write_market
from examples.ctr.comparison import WORLD, compared, ranked
from examples.ctr.world import DELAY, simulate
from examples.project_run import figures
from examples.sensors.machines import write as write_machines
from penstock.app.runtime import open_reader, plan_of
from penstock.definitions.project import load_project
from penstock.engine.history import features_from_log
from penstock.models.evaluation import evaluate_binary

CLICKS = 12_000


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """The folder of the example of clicks, after its one command."""
    folder = tmp_path_factory.mktemp("examples") / "ctr"
    assert ctr.main(["--count", str(CLICKS), "--folder", str(folder)]) == 0
    return folder


def test_clicks_are_found_better_than_by_chance_and_not_better_than_possible(clicks, capsys):
    found = compared(clicks, CLICKS)
    best = found.pop(WORLD)
    assert list(found) == ["logistic", "boosted", "online"]
    for report in found.values():
        assert (report["rows"], report["positives"]) == (best["rows"], best["positives"]), "one test for all"
        assert 0.5 < report["roc_auc"] < best["roc_auc"]
        assert report["base_rate"] < report["average_precision"] < best["average_precision"]
        assert best["log_loss"] < report["log_loss"]
    ctr.show({**found, WORLD: best})
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[3:]] == [
        "no model",
        *found,
        WORLD,
    ]


def test_the_picture_of_clicks_is_of_the_figures(clicks):
    import matplotlib.image

    drawn = matplotlib.image.imread(clicks / "reports" / "comparison.png")
    assert drawn.shape[0] > 300
    assert drawn[..., :3].std() > 0.05
    share, clicked, foretold = ranked(compared(clicks, CLICKS)[WORLD])
    assert share[-1] == 1
    assert (np.diff(share) > 0).all()
    assert clicked[-1] == pytest.approx(foretold[-1], rel=0.2)
    assert clicked[0] > 3 * clicked[-1]


def test_the_online_model_of_clicks_has_learned_what_was_known_and_nothing_else(clicks):
    """River by itself, row by row: each impression is scored by what the hundreds of clicks known before it teach."""
    project = load_project(clicks)
    model, plan = project.models["online"], plan_of(project)
    with open_reader(clicks) as store:
        logged = features_from_log(store, plan, plan.services["ctr_features"])
    world = simulate(CLICKS)
    rows = [dict(enumerate(row)) for row in logged.features.values.tolist()]
    known = np.searchsorted(world["seconds"] + DELAY.total_seconds(), world["seconds"], side="right")
    estimator, learned, scores = model.estimator.clone(), 0, []
    for row, count in zip(rows, (known // 100 * 100).tolist(), strict=True):
        for i in range(learned, count):
            estimator.learn_one(rows[i], bool(world["clicked"][i]))
        learned = count
        scores.append(estimator.predict_proba_one(row)[True])
    test = world["seconds"] > world["seconds"].max() - 86_400
    wanted = evaluate_binary(world["clicked"][test], np.array(scores)[test])
    found = figures(clicks, "online")
    for name in ("roc_auc", "average_precision", "log_loss"):
        assert found[name] == pytest.approx(getattr(wanted, name), abs=1e-9)


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
