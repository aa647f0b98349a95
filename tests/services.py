"""Programs besides Python that some tests use. `make services` installs them; with REQUIRE_SERVICES=1, as in CI, no test does without."""

import os
import shutil

import pytest


def needs(program):
    """Skips a test where `program` is not installed, unless nothing may be skipped."""
    absent = shutil.which(program) is None and os.environ.get("REQUIRE_SERVICES") != "1"
    return pytest.mark.skipif(absent, reason=f"{program} is not installed: make services")
