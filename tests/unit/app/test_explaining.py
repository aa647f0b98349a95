"""`penstock explain-event`: what is listed behind a feature is what the feature was computed from, event by event."""

import json

import pytest
from msgspec import structs
from typer.testing import CliRunner

from penstock.app.explaining import as_json, explain_event
from penstock.cli.main import app
from penstock.core.errors import NotFoundError
from penstock.testing.reference_functions import FUNCTIONS
from tests.unit.app.shop import feed, open_project, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = write_project(tmp_path_factory.mktemp("explained"))
    with open_project(folder) as runtime:
        feed(runtime, 140)
    return folder


@pytest.mark.parametrize("number", range(0, 140, 6))
def test_the_rows_behind_a_feature_give_its_value(project, number):
    found = explain_event(project, f"p{number}")
    assert found.differing == 0
    assert [one.same for one in found.features if one.is_output] == [True] * 8
    for one in found.features:
        if one.behind is not None:
            values = list(one.behind.values)
            again = FUNCTIONS[one.behind.function](values)
            assert (None if again is None else float(again)) == one.recomputed, (one.name, values)
            assert len(values) == len(one.behind.positions) == len(one.behind.ids)


def test_all_kinds_of_rows_were_among_them(project):
    """Late events, labels and other cards' payments stand behind some feature, or the test above says little."""
    described = [as_json(explain_event(project, f"p{n}")) for n in range(100, 140)]
    features = {(f["name"], f["count"] > 0) for one in described for f in one["features"] if "count" in f}
    names = {name for name, filled in features if filled}
    assert names == {
        "spending.n",
        "spending.s",
        "spending.most",
        "spending.before",
        "spending.shops",
        "risk.known",
        "received.usual",
    }
    assert any("late" in one["decision"]["flags"] for one in described)
    assert any("too_late" in one["decision"]["flags"] for one in described)


def test_a_changed_value_is_found(project, monkeypatch):
    from penstock.engine import lookup, provenance

    class Forged(lookup.RowReader):
        def decisions(self, endpoint, positions):
            found = super().decisions(endpoint, positions)
            return [
                (at, structs.replace(decisions, vectors=decisions.vectors + 1.0)) for at, decisions in found
            ]

    monkeypatch.setattr(provenance, "RowReader", Forged)
    found = explain_event(project, "p139")
    assert found.differing == sum(one.served is not None for one in found.features if one.is_output) > 0


def test_a_realtime_feature_names_its_inputs(project):
    found = next(f for f in as_json(explain_event(project, "p100"))["features"] if f["name"] == "ratio.ratio")
    assert set(found["inputs"]) == {"amount", "received.usual"}


def test_by_position(project):
    one = explain_event(project, "p50")
    again = explain_event(project, f"position:{one.position}")
    assert again.event_id == "p50"
    with pytest.raises(NotFoundError, match="position 0 holds"):
        explain_event(project, "position:0")
    with pytest.raises(NotFoundError, match="position 99999 holds nothing"):
        explain_event(project, "position:99999")


def test_what_is_not_there(project):
    with pytest.raises(NotFoundError, match="no event with the id 'nope' is in the log of payments"):
        explain_event(project, "nope")
    with pytest.raises(NotFoundError, match="no endpoint decides on frauds"):
        explain_event(project, "p1", source="frauds")


def test_the_command_fits_the_terminal_and_has_it_all_as_json(project):
    result = CliRunner().invoke(app, ["explain-event", "p139", "--project", str(project)])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "8 values compared with their recomputation from the log, 0 differ" in result.stdout
    result = CliRunner().invoke(app, ["explain-event", "p139", "--json", "--project", str(project)])
    found = json.loads(result.stdout)
    assert found["event_id"] == "p139"
    assert found["decision"]["endpoint"] == "endpoint"


def test_other_definitions_are_not_compared(project, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    text = (copy / "definitions.py").read_text().replace("time_window=3 * HOUR", "time_window=4 * HOUR")
    (copy / "definitions.py").write_text(text)
    found = explain_event(copy, "p100")
    assert {one.same for one in found.features} == {None}
    assert found.notes == ("it was served by other definitions than the present ones",)
