"""The OpenAPI document is current, and good to read."""

import json
from pathlib import Path

from penstock.serving.api import create_app
from penstock.serving.openapi import document

ROOT = Path(__file__).resolve().parents[3]


def test_the_document_is_current():
    assert (ROOT / "docs/openapi.json").read_text("utf-8") == document(), (
        "renew it: python -m penstock.serving.openapi > docs/openapi.json"
    )


def test_it_needs_no_project_and_is_the_one_that_is_served():
    assert json.loads(document()) == create_app(None).openapi()


def test_every_route_says_what_it_does():
    for path, methods in create_app(None).openapi()["paths"].items():
        for method, route in methods.items():
            assert route.get("summary"), (method, path)
            assert len(route.get("description", "")) > 20, (method, path)
            assert route.get("tags"), (method, path)
