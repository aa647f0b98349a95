"""docs/cli.md is what the commands say, and the commands are what the issue names."""

from pathlib import Path

from penstock.cli.reference import reference

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = ["init", "up", "run", "train", "score", "backfill", "replay", "audit", "explain", "registry"]
COMMANDS += ["status", "forget"]


def test_the_page_is_current():
    page = (ROOT / "docs/cli.md").read_text("utf-8")
    assert page == reference(), "run: python -m penstock.cli.reference > docs/cli.md"


def test_every_command_is_there():
    page = reference()
    assert [name for name in COMMANDS if f"## penstock {name}" not in page] == []
