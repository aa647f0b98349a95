"""Services that a suite needs: where one is missing its tests are skipped, unless ``REQUIRE_SERVICES=1``."""

import os

import pytest


def missing(what):
    """Skip the test for want of `what`; with ``REQUIRE_SERVICES=1`` fail it instead."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what}, and REQUIRE_SERVICES=1 asks for it")
    pytest.skip(what)
