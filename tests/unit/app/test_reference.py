"""docs/reference.md is what the code says."""

from pathlib import Path

from penstock.app.reference import reference
from penstock.definitions.aggregates import FUNCTIONS

ROOT = Path(__file__).parents[3]


def test_the_page_is_current():
    page = (ROOT / "docs/reference.md").read_text("utf-8")
    assert page == reference(), "run: python -m penstock.app.reference > docs/reference.md"


def test_every_function_has_its_row():
    assert all(f"| `{name}` |" in reference() for name in FUNCTIONS)
