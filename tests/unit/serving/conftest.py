"""The template project, served: one's own, or one with events for all tests of a module."""

from __future__ import annotations

import shutil

import pytest

import penstock
from penstock.app.runtime import registry_of
from penstock.testing.serving import serving_project
from tests.unit.serving.shop import CLOCK, EVENTS, chargebacks, payments, register, write_template


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A project with a champion and no event; copy it, or let `project` do so."""
    root = write_template(tmp_path_factory.mktemp("template") / "shop")
    version = register(root)
    registry_of(root).promote("fraud", version.version, stage="Production", actor="ann", reason="test")
    return root


@pytest.fixture(autouse=True, scope="session")
def models_are_sound():
    """The models are the tests' own: none is tried out in a process of its own first, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
        yield


@pytest.fixture
def project(template, tmp_path):
    """A project of one's own."""
    return shutil.copytree(template, tmp_path / "shop")


@pytest.fixture
def served(project):
    """One's own project, served, without events."""
    with serving_project(project, clock=CLOCK) as served:
        yield served


@pytest.fixture
def client(served):
    """A client of `served`."""
    with penstock.Client(served.url) as client:
        yield client


@pytest.fixture(scope="module")
def shop(template, tmp_path_factory):
    """A project with events and labels, served for all tests of a module: look, and leave as it is."""
    root = shutil.copytree(template, tmp_path_factory.mktemp("served") / "shop")
    with serving_project(root, clock=CLOCK) as served:
        with penstock.Client(served.url) as client:
            for one in range(0, EVENTS, 25):
                client.score("checkout", payments(25, one))
            client.ingest("chargebacks", chargebacks())
            client.ingest("payments", [{"payment_id": "bad", "card_id": 7}, {"card_id": "no id"}])
        yield served


@pytest.fixture
def asking(shop):
    """A client of `shop`."""
    with penstock.Client(shop.url) as client:
        yield client
