"""docs/reference.md and docs/aggregates.md are what the code says."""

from pathlib import Path

from penstock.app.aggregate_table import aggregate_page
from penstock.app.reference import reference
from penstock.definitions.aggregate_functions import FUNCTIONS

ROOT = Path(__file__).parents[3]


def test_the_page_is_current():
    page = (ROOT / "docs/reference.md").read_text("utf-8")
    assert page == reference(), "run: python -m penstock.app.reference > docs/reference.md"


def test_the_table_of_aggregates_is_current():
    page = (ROOT / "docs/aggregates.md").read_text("utf-8")
    assert page == aggregate_page(), "run: python -m penstock.app.aggregate_table > docs/aggregates.md"


def test_every_function_has_its_row():
    assert all(f"| `{name}` |" in aggregate_page() for name in FUNCTIONS)
