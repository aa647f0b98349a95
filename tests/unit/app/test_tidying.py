"""Tidying the store keeps nobody waiting whose events are durable, and stops the engine where it fails."""

import threading

import pytest

from penstock.core.errors import StoreError
from tests.unit.app.shop import open_project, payments, write_project


@pytest.fixture
def runtime(tmp_path):
    with open_project(write_project(tmp_path)) as runtime:
        yield runtime


@pytest.fixture
def untidy(runtime, monkeypatch):
    """From now on there is something to tidy after every commit."""
    monkeypatch.setattr("penstock.stores.sqlite._CHECKPOINT_PAGES", 1)
    return runtime.store


def sent(runtime, first, *, overlap):
    decoded = runtime.decode("payments", payments(1, 7, first))
    return runtime.process([("payments", decoded)], overlap=overlap)


@pytest.mark.parametrize("overlap", [False, True])
def test_who_waits_for_a_commit_does_not_wait_for_tidying(runtime, untidy, monkeypatch, overlap):
    may_go, tidied, tidy = threading.Event(), threading.Event(), untidy.tidy

    def slow():
        assert may_go.wait(30)
        tidy()
        tidied.set()

    monkeypatch.setattr(untidy, "tidy", slow)
    for number in range(2):  # what is overlapped is seen by the next one
        sent(runtime, number, overlap=overlap).wait()
    assert not tidied.is_set()
    may_go.set()
    assert tidied.wait(30)
    assert sent(runtime, 2, overlap=overlap).wait().counters["received"] == 1


def test_tidying_that_fails_stops_the_engine(runtime, untidy, monkeypatch):
    def fail():
        raise StoreError("store: the disk is full")

    monkeypatch.setattr(untidy, "tidy", fail)
    sent(runtime, 0, overlap=False)
    runtime.engine._writer.shutdown(wait=True)
    assert runtime.engine.stopped
    with pytest.raises(StoreError, match="the disk is full"):
        sent(runtime, 1, overlap=False)
