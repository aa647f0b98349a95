"""The OpenAPI document of the HTTP API: ``python -m penstock.serving.openapi > docs/openapi.json``."""

from __future__ import annotations

import json
import sys

from penstock.serving.api import create_app


def document() -> str:
    """The document as JSON, the same for the same code."""
    return json.dumps(create_app(None).openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
