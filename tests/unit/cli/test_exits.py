"""Errors become one message and a stable exit code; help needs no heavy library."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from penstock.cli.exits import Commands, ExitCode, exit_code_of
from penstock.core import errors
from tests.unit.test_house import HEAVY, modules_loaded_by

MENDED_BY_USERS = {
    "ContractError",
    "DefinitionError",
    "InputError",
    "NotFoundError",
    "PlanError",
    "ProjectError",
    "SettingsError",
}


def all_errors():
    return [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.PenstockError)]


@pytest.mark.parametrize("error", all_errors(), ids=lambda e: e.__name__)
def test_every_error_has_its_code(error):
    raised = error("reason", "detail") if error is errors.ContractError else error("found")
    expected = ExitCode.USAGE if error.__name__ in MENDED_BY_USERS else ExitCode.FAILED
    assert exit_code_of(raised) is expected


def failing(error):
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @app.callback()
    def main() -> None: ...

    @app.command()
    def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("column 'x' is missing"), 2),
        (errors.StoreError("disk full"), 3),
        (PermissionError(13, "Permission denied", "data"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_message_without_traceback(error, code):
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("penstock: ")
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("PENSTOCK_DEBUG", "1")
    result = CliRunner().invoke(failing(errors.StoreError("disk full")), ["fail"])
    assert isinstance(result.exception, errors.StoreError)


def test_a_defect_is_not_hidden():
    result = CliRunner().invoke(failing(ZeroDivisionError()), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_help_loads_no_heavy_library():
    assert modules_loaded_by("import penstock.cli.main") & HEAVY <= {"typer"}


def test_help_fits_the_terminal():
    run = subprocess.run(
        [sys.executable, "-c", "from penstock.cli.main import app; app()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert "..." not in run.stdout.partition("Commands:")[2].partition("Exit codes")[0]
