"""`penstock test`: sound definitions pass, each kind of leak is caught, and the users' own tests run."""

import json

import pytest
from typer.testing import CliRunner

from penstock.app.proving import prove
from penstock.app.requests import features_for_events
from penstock.cli.main import app
from penstock.core.errors import InputError, NotFoundError
from penstock.definitions.project import load_project
from tests.unit.app.shop import DEFINITIONS, feed, open_project, payments, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = write_project(tmp_path_factory.mktemp("proved"))
    with open_project(folder) as runtime:
        feed(runtime, 140)
    return folder


def outcome(proof):
    return {trial.name: trial.passed for trial in proof.trials}


def test_sound_features_pass_on_logged_and_on_generated_rows(project, tmp_path):
    logged = prove(project)
    assert outcome(logged) == dict.fromkeys(
        ["later events", "other keys", "one by one", "same again", "row times"], True
    )
    assert not logged.generated
    made = prove(write_project(tmp_path / "new"))
    assert made.generated
    assert outcome(made) == outcome(logged)
    assert all(trial.compared > 100 for trial in (*logged.trials, *made.trials))


LEAKS = {
    # A mode python function sees one row at a time, but may remember.
    "remembers": """
SEEN = {}


@stream_feature_view(
    source=payments, entities=[card], mode="python",
    features=[Aggregate(AMOUNT, "max", time_window=HOUR, name="leak")],
)
def leaking(row):
    amount = row["amount"] or 0.0
    SEEN[row["shop"]] = max(SEEN.get(row["shop"], 0.0), amount + 10 * len(SEEN))
    SEEN[row["at"]] = 0.0
    return {"card_id": row["card_id"], "at": row["at"], "amount": SEEN[row["shop"]]}
""",
    # The whole batch goes into each row.
    "averages": """
@stream_feature_view(
    source=payments, entities=[card], features=[Aggregate(AMOUNT, "max", time_window=HOUR, name="leak")],
)
def leaking(rows):
    import numpy as np

    return {"card_id": rows["card_id"], "at": rows["at"], "amount": rows["amount"] - np.nansum(rows["amount"])}
""",
    # Each row claims to be of the day after.
    "future": """
@stream_feature_view(
    source=payments, entities=[card], features=[Aggregate(AMOUNT, "sum", time_window=HOUR, name="leak")],
)
def leaking(rows):
    import numpy as np

    return {"card_id": rows["card_id"], "at": rows["at"] + np.timedelta64(1, "D"), "amount": rows["amount"]}
""",
    "random": """
import random


@stream_feature_view(
    source=payments, entities=[card], mode="python",
    features=[Aggregate(AMOUNT, "sum", time_window=HOUR, name="leak")],
)
def leaking(row):
    return {"card_id": row["card_id"], "at": row["at"], "amount": random.random()}
""",
}
SERVICE = '\nleaky = FeatureService("leaky", features=[leaking])\n'


@pytest.mark.parametrize(
    ("leak", "caught_by"),
    [
        ("remembers", {"later events"}),
        ("averages", {"later events", "other keys", "one by one", "same again"}),
        ("future", {"row times"}),
        ("random", {"later events", "other keys", "one by one", "same again"}),
    ],
)
def test_a_leak_is_caught(leak, caught_by, tmp_path, project):
    folder = write_project(tmp_path / "leaking", DEFINITIONS + LEAKS[leak] + SERVICE)
    found = outcome(prove(folder, ["leaky"], rows=400))
    assert {name for name, passed in found.items() if passed is False} >= caught_by
    assert outcome(prove(folder, ["features"], rows=400))["later events"]


def test_what_fails_is_said_with_event_and_values(tmp_path):
    folder = write_project(tmp_path / "leaking", DEFINITIONS + LEAKS["remembers"] + SERVICE)
    (first,) = (t for t in prove(folder, ["leaky"], rows=400).trials if t.name == "later events")
    assert "deleting all after 20" in first.detail
    assert "changes leaking.leak of the event at 20" in first.detail
    result = CliRunner().invoke(app, ["test", "leaky", "--project", str(folder)])
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_service_without_events_is_not_tried(tmp_path):
    other = """
quiet = StreamSource("quiet", PushConfig(), schema=[Field("card_id", Int64), Field("at", Timestamp)])
hushed = StreamFeatureView(
    "hushed", source=quiet, entities=[card],
    features=[Aggregate(Field("card_id", Int64), "count", time_window=HOUR)],
)
silent = FeatureService("silent", features=[hushed])
"""
    folder = write_project(tmp_path / "quiet", DEFINITIONS + other)
    with open_project(folder) as runtime:
        feed(runtime, 20)
    proof = prove(folder, ["silent"])
    assert set(outcome(proof).values()) == {None}
    assert proof.passed


def test_an_unknown_service(project):
    with pytest.raises(NotFoundError, match="there is no feature service 'nope'; there are features"):
        prove(project, ["nope"])


OWN = """
from pathlib import Path
from penstock.definitions.project import load_project


def test_own():
    project = load_project(Path(__file__).parents[1])
    assert list(project.services) == [{expected!r}]
"""


@pytest.mark.parametrize(("expected", "code"), [("features", 0), ("other", 1)])
def test_own_tests_run_and_count(tmp_path, expected, code):
    folder = write_project(tmp_path / "own")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_own.py").write_text(OWN.format(expected=expected))
    result = CliRunner().invoke(app, ["test", "--json", "--rows", "60", "--project", str(folder)])
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert found["tests"]["passed"] is (code == 0)
    assert found["passed"] is (code == 0)
    assert ("1 passed" if code == 0 else "1 failed") in found["tests"]["output"]


def test_mock_inputs_stand_for_the_sources(project):
    loaded = load_project(project)
    rows = payments(5)
    given = {"payments": rows}
    made = loaded.views["spending"].run_transformation(mock_inputs=given)
    assert made.equals(loaded.views["spending"].run_transformation(rows))
    asked = [{"card_id": 1, "at": rows[-1]["at"]}]
    view = loaded.views["received"]
    tables = [
        view.get_features_for_events(asked, **{name: given}).to_arrow() for name in ("mock_inputs", "history")
    ]
    assert tables[0].equals(tables[1])


def test_mock_inputs_must_name_each_source(project):
    view = load_project(project).views["ratio"]
    with pytest.raises(InputError, match="mock_inputs has 'request'; its sources are 'request', 'received'"):
        view.run_transformation(mock_inputs={"request": []})
    with pytest.raises(InputError, match="input_data and mock_inputs= are both given"):
        view.run_transformation([], mock_inputs={})
    with pytest.raises(InputError, match="history= and mock_inputs= are both given"):
        features_for_events([view.reference()], [], history={}, mock_inputs={})
