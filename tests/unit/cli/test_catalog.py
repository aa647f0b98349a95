"""`penstock catalog` and `penstock lineage` over the template project."""

import json

import pytest
from typer.testing import CliRunner

from penstock.cli.init import write_project
from penstock.cli.main import app


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog") / "cards"
    write_project(folder)
    return folder


@pytest.fixture
def call(project):
    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [*arguments, "--project", str(project)])
        assert result.exit_code == code, result.output
        return result.stdout

    return run


def test_everything_is_listed(call, project):
    text = call("catalog")
    for name in ("payments", "card_spending", "times_usual", "fraud_features", "checkout"):
        assert name in text
    assert max(map(len, text.splitlines())) <= 80
    assert not (project / ".penstock").exists()  # looking leaves nothing behind


def test_words_narrow_it_down_with_or_without_list(call):
    names = [one["name"] for one in json.loads(call("catalog", "amount", "7d", "--json"))]
    assert names == ["card_spending.amount_count_7d_continuous", "card_spending.amount_mean_7d_continuous"]
    assert call("catalog", "amount", "7d") == call("catalog", "list", "amount", "7d")
    assert "0 found for 'no such thing'" in call("catalog", "no such thing")


def test_an_entry_shows_both_sides(call):
    found = json.loads(call("catalog", "show", "payment", "--json"))
    assert found["id"] == "view:payment"
    assert "column:payments.amount" in found["upstream"]
    assert "endpoint:checkout" in found["downstream"]
    assert "times_usual" in call("catalog", "show", "view:payment")


def test_lineage_of_a_column(call):
    text = call("lineage", "payments.amount", "--downstream")
    assert "upstream" not in text
    assert "card_spending.amount_mean_7d_continuous" in text
    assert max(map(len, text.splitlines())) <= 80
    ids = [
        node["id"] for node in json.loads(call("lineage", "payments.amount", "--upstream", "--json"))["nodes"]
    ]
    assert ids == ["source:payments", "column:payments.amount"]


def test_lineage_is_drawn(call, tmp_path):
    call("lineage", "--svg", str(tmp_path / "made" / "all.svg"))
    assert (tmp_path / "made" / "all.svg").read_text("utf-8").count('class="box"') == 9


def test_an_unknown_name_is_an_error(call):
    call("lineage", "nope", code=2)
    call("lineage", "--upstream", code=2)
