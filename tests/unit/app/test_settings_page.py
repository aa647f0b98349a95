"""docs/settings.md is what the settings are; the environment, .env and the file are taken in this order."""

from pathlib import Path

import pytest

from penstock.app.settings import load_settings
from penstock.app.settings_page import reference, variables
from penstock.core.errors import SettingsError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "penstock.toml").write_text("[serve]\nport = 1\n")
    return tmp_path


def test_the_page_is_current():
    page = (ROOT / "docs/settings.md").read_text("utf-8")
    assert page == reference(), "run: python -m penstock.app.settings_page > docs/settings.md"


def test_every_setting_has_a_variable_that_works(folder, monkeypatch):
    monkeypatch.setenv("PENSTOCK_SERVE__PORT", "3")
    monkeypatch.setenv("PENSTOCK_SERVE__ALLOWED_HOSTS", '["fraud.example"]')
    found = load_settings(folder)
    assert found.serve.port == 3
    assert found.serve.allowed_hosts == ["fraud.example"]
    assert {"PENSTOCK_SERVE__PORT", "PENSTOCK_SERVE__ALLOWED_HOSTS", "PENSTOCK_DEBUG"} <= variables()


def test_the_environment_goes_before_env_and_that_before_the_file(folder, monkeypatch):
    assert load_settings(folder).serve.port == 1
    (folder / ".env").write_text("# ours\nPENSTOCK_SERVE__PORT=2\nOTHERS_PASSWORD=secret\n")
    assert load_settings(folder).serve.port == 2
    monkeypatch.setenv("PENSTOCK_SERVE__PORT", "3")
    assert load_settings(folder).serve.port == 3


def test_env_of_the_folder_one_stands_in_is_not_read(folder, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / ".env").write_text("PENSTOCK_SERVE__PORT=2\n")
    monkeypatch.chdir(elsewhere)
    assert load_settings(folder).serve.port == 1


@pytest.mark.parametrize(
    "line", ["PENSTOCK_SERV__PORT=2", "PENSTOCK_SERVE__PROT=2", "PENSTOCK_SERVE__PORT=many"]
)
def test_what_is_wrong_in_env_is_named(folder, line):
    (folder / ".env").write_text(line + "\n")
    with pytest.raises(SettingsError, match=r"(?i)serv.*Correct penstock\.toml, \.env"):
        load_settings(folder)
