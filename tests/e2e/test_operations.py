"""docs/operations.md: what it says to do can be done, in its order, and the commands that are named anywhere for operators exist."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from penstock.cli.init import write_project
from penstock.cli.main import app
from tests.e2e.commands import penstock

pytestmark = pytest.mark.early
ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/operations.md", "deploy/README.md", "deploy/prometheus/rules/alerts.yml", "deploy/Dockerfile"]
NAMED = re.compile(r"`penstock ((?:[a-z-]+ ?)+)")


def known():
    """Every command, as it is typed."""
    groups = {name: getattr(command, "commands", {}) for name, command in get_command(app).commands.items()}
    return set(groups) | {f"{name} {child}" for name, children in groups.items() for child in children}


def test_the_commands_that_operators_are_told_exist():
    told = {(page, found.strip()) for page in PAGES for found in NAMED.findall((ROOT / page).read_text())}
    assert len(told) > 10
    commands = known()
    missing = [one for one in told if not any(f"{one[1]} ".startswith(f"{name} ") for name in commands)]
    assert missing == []


def quickly(folder, *arguments):
    """A command that is not what is tested, in this process: starting one takes longer than what it does."""
    done = CliRunner().invoke(app, [*arguments, "--project", str(folder)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_backup_is_restored_into_a_fresh_clone_as_the_guide_says(tmp_path):
    """Backup, a machine is lost, its project's files are cloned again, restore, doctor, audit, go on."""
    shop = tmp_path / "shop"
    write_project(shop)
    quickly(shop, "run")
    quickly(shop, "train", "fraud")
    quickly(shop, "registry", "promote", "fraud", "1", "--skip-gate", "a first version")
    before = json.loads(quickly(shop, "status", "--json"))
    penstock(shop, "backup", str(tmp_path / "backup"))
    again = tmp_path / "again" / "shop"
    shutil.copytree(shop, again, ignore=shutil.ignore_patterns(".penstock"))
    shutil.rmtree(shop)
    penstock(again, "restore", str(tmp_path / "backup"))
    penstock(again, "doctor")
    assert json.loads(penstock(again, "audit", "--json"))["clean"]
    after = json.loads(quickly(again, "status", "--json"))
    for what in ("log_length", "counters", "champions"):
        assert after[what] == before[what]
    penstock(again, "run")
    assert json.loads(quickly(again, "status", "--json"))["log_length"] == before["log_length"], (
        "files are read on"
    )


def test_without_state_to_keep_a_backup_says_so(tmp_path):
    penstock(tmp_path, "init", "shop")
    command = [
        sys.executable,
        "-c",
        "from penstock.cli.main import app; app()",
        "backup",
        str(tmp_path / "backup"),
    ]
    done = subprocess.run(command, cwd=tmp_path / "shop", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has never run" in done.stderr
