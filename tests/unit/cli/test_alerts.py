"""`penstock alerts` over a small project."""

import json

import pytest
from typer.testing import CliRunner

from penstock.app.alerting import alerting
from penstock.cli.main import app
from penstock.cli.options import duration_of
from penstock.core.errors import InputError
from tests.unit.app.receiver import SECRET, Receiver
from tests.unit.app.told import hook, open_project, pay

pytest.importorskip("httpx")
BLOCKED = 'block = Alert("block", on=OnDecision(checkout, action="block"), to=[{to}])\n'


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDS_SECRET", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, ["alerts", *arguments, "--project", str(tmp_path)])
        assert result.exit_code == code, result.output
        return result.stdout

    return run


def test_list_log_silence_and_test(call, tmp_path):
    with Receiver() as cards:
        with open_project(tmp_path, BLOCKED.format(to=hook(cards))) as runtime:
            assert "block" in call("list")
            assert not (tmp_path / ".penstock/alerts.db").exists()  # looking leaves nothing behind
            assert call("log", "--json").strip() == "[]"
            with alerting(runtime, finish=lambda: True):
                pay(runtime, [0.95, 0.1])
        assert f"{cards.url}: taken" in call("test", "block")
        assert len(cards.keys) == 2
        (one,) = json.loads(call("list", "--json"))
        assert (one["messages"], one["silenced_until_us"]) == ({"sent": 1}, None)
        assert "silenced until" in call("silence", "block", "--for", "1h", "--reason", "works")
        assert json.loads(call("list", "--json"))[0]["silenced_until_us"] is not None
        (row,) = json.loads(call("log", "block", "--state", "sent", "--json"))
        assert (row["key"], row["attempts"]) == (cards.keys[0], 1)
        assert max(map(len, call("list").splitlines())) <= 80
        assert max(map(len, call("log").splitlines())) <= 80
    assert "ConnectError" in call("test", "block", code=1)
    assert call("retry", "block").startswith("0 messages")


def test_what_is_wrong_is_said(call, tmp_path):
    open_project(tmp_path, BLOCKED.format(to='Webhook("http://127.0.0.1:9", secret_env="NOT_SET")')).close()
    assert "NOT_SET is not set" in call("list")
    call("test", "ban", code=2)
    call("log", "--state", "lost", code=2)
    call("silence", "block", "--for", "soon", "--reason", "x", code=2)


@pytest.mark.parametrize("text", ["", "1", "1w", "-1h", "1.5h"])
def test_a_duration_is_a_number_and_a_unit(text):
    with pytest.raises(InputError, match="allowed"):
        duration_of(text, option="--for")
