"""Programs and servers besides Python that some tests use. `make services` installs and starts them.

A test that asks for the fixture `postgres`, `redis`, `kafka`, ... gets the running `services.base.Service`: `.address` is what
a client connects to. A server that does not run yet is started, and stopped when the test run ends. Where one cannot be had the
test is skipped with the reason; with REQUIRE_SERVICES=1, as in CI, it fails instead.
"""

import os
import shutil

import pytest

from services import SERVICES
from services.base import FOLDER, ServiceError

REQUIRED = os.environ.get("REQUIRE_SERVICES") == "1"
RUN = "PENSTOCK_TEST_RUN"  # the test run, inherited by its workers: who starts a server leaves this beside it


def needs(program):
    """Skips a test where `program` is not installed, unless nothing may be skipped."""
    absent = shutil.which(program) is None and not REQUIRED
    return pytest.mark.skipif(absent, reason=f"{program} is not installed: make services")


def begin():
    """Name this test run, in the process that the workers come from."""
    os.environ.setdefault(RUN, str(os.getpid()))


def finish():
    """Stop what this test run has started, once all its workers are done."""
    if os.environ.get(RUN) != str(os.getpid()):
        return
    for name, service in SERVICES.items():
        mark = _mark(name)
        if mark.exists() and mark.read_text() == os.environ[RUN]:
            service.stop()
            mark.unlink()


def _mark(name):
    return FOLDER / f"{name}.started_by"


def _started(name):
    service = SERVICES[name]
    try:
        service.install()
        if not service.running():
            FOLDER.mkdir(exist_ok=True)
            _mark(name).write_text(os.environ[RUN])
        service.start()
    except ServiceError as error:
        if REQUIRED:
            pytest.fail(f"{error} REQUIRE_SERVICES=1 asks for it.")
        pytest.skip(str(error))
    return service


def _fixture(name):
    @pytest.fixture(scope="session", name=name)
    def service():
        return _started(name)

    return service


postgres = _fixture("postgres")
redis = _fixture("redis")
kafka = _fixture("kafka")
alertmanager = _fixture("alertmanager")
prometheus = _fixture("prometheus")
mlflow_server = _fixture("mlflow")
