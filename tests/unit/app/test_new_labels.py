"""The trigger of 500 new labels, from labels that come to versions that are trained: once, and by what is new to the model alone.

Each step opens the project anew, as a restart does, and looks through the loop of the process that goes on beside a run.
"""

from __future__ import annotations

import json
import random
from datetime import timedelta
from itertools import islice

import pytest
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.new_labels import LearnedPositions
from penstock.app.retraining_beside import follow
from penstock.app.retraining_journal import Journal
from penstock.cli.main import app
from penstock.testing.clock import ManualClock
from tests.unit.app.fraud_shop import START, stream, write_project

FIVE_HUNDRED = "new_labels=500, min_positives=20, cooldown=timedelta(0)"
EVENTS = 2400


@pytest.fixture(autouse=True)
def no_child(monkeypatch):
    """The process that checks a version before it is loaded has tests of its own, and takes a second each time."""
    monkeypatch.setattr("penstock.models.loading.check_in_child", lambda *_, **__: None)
    monkeypatch.setattr("penstock.app.training.draw", lambda *_: {})


class Shop:
    """A project with events, and their labels one after the other, negatives and positives as one asks."""

    def __init__(self, folder):
        self.root = write_project(folder, FIVE_HUNDRED)
        self.clock = ManualClock(1_800_000_000_000_000)
        self.events, labels = stream(0, EVENTS)
        random.Random(0).shuffle(labels)
        self._labels = {kind: iter([one for one in labels if one["fraud"] is kind]) for kind in (True, False)}
        self.given = []
        with self.opened() as runtime:
            runtime.ingest("payments", self.events)

    def opened(self):
        return Runtime.open(self.root, clock=self.clock)

    def label(self, *, bad, good):
        """So many first labels of each kind come."""
        rows = [*islice(self._labels[True], bad), *islice(self._labels[False], good)]
        assert len(rows) == bad + good
        self.given += rows
        self.send(rows)

    def correct(self, count):
        """The labels of so many events turn out to be wrong, and of as many are sent again."""
        later = START + timedelta(days=30)
        self.send([one | {"fraud": not one["fraud"], "known_at": later} for one in self.given[:count]])
        self.send(self.given[count : 2 * count])

    def send(self, rows):
        with self.opened() as runtime:
            runtime.ingest("frauds", rows)

    def attempts(self, looks=1):
        """What was begun so far, after the process beside has been started, has looked, and was ended."""
        with self.opened() as runtime:
            answers = iter(["go on"] * (looks - 1) + ["end"])
            follow(self.root, wait=lambda _: next(answers), clock=self.clock)
            return [one.why for one in Journal(runtime.routes.audit, "fraud").attempts()]

    def waiting(self):
        command = ["retrain", "fraud", "--status", "--json", "--project", str(self.root)]
        found = json.loads(CliRunner().invoke(app, command).stdout)
        return found["seen"]["labels"], found["seen"]["positives"]


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


FIRST = "500 new labels, 60 of them positive"


def test_it_fires_at_the_five_hundredth_new_label_and_once(shop):
    assert shop.attempts() == [], "watched from here on"
    shop.label(bad=60, good=439)
    assert shop.attempts(looks=2) == []
    shop.correct(50)
    assert shop.waiting() == (499, 60), "a correction is no new label, nor one that is sent twice"
    assert shop.attempts(looks=2) == []
    shop.label(bad=0, good=1)
    assert shop.attempts(looks=3) == [FIRST], "one look fires, the others do not"
    assert shop.attempts() == [FIRST], "nor does a restart"
    shop.label(bad=40, good=459)
    shop.correct(50)
    assert shop.attempts() == [FIRST]
    shop.label(bad=1, good=0)
    assert shop.attempts() == [FIRST, "500 new labels, 41 of them positive"]
    assert shop.attempts() == [FIRST, "500 new labels, 41 of them positive"]


def test_too_few_positives_hold_it_back_however_many_labels_there_are(shop):
    shop.attempts()
    shop.label(bad=19, good=700)
    assert shop.attempts() == []
    shop.correct(60)  # negatives that turn out positive: no new labels
    assert shop.waiting() == (719, 19)
    assert shop.attempts() == []
    shop.label(bad=1, good=0)
    assert shop.attempts() == ["720 new labels, 20 of them positive"]


def test_a_label_that_comes_before_its_event_is_new_when_they_join(shop):
    shop.attempts()
    events, labels = stream(EVENTS, 30)
    shop.label(bad=60, good=439)
    shop.send(labels)
    assert shop.waiting() == (499, 60), "it waits for its event"
    assert shop.attempts() == []
    with shop.opened() as runtime:
        runtime.ingest("payments", events)
    assert shop.attempts()[0].startswith("529 new labels")


@pytest.mark.parametrize("used", [True, False])
def test_labels_that_a_version_knows_which_was_trained_by_hand_are_not_new_once_it_is_in_use(shop, used):
    shop.attempts()
    shop.label(bad=60, good=430)
    assert shop.attempts() == []
    project = ["--project", str(shop.root)]
    assert CliRunner().invoke(app, ["train", "fraud", *project]).exit_code == 0
    if used:
        promote = ["registry", "promote", "fraud", "1", "--skip-gate", "by hand", "--reason", "by hand"]
        assert CliRunner().invoke(app, [*promote, *project]).exit_code == 0
    shop.label(bad=10, good=20)
    assert shop.waiting() == ((30, 10) if used else (520, 70))
    assert len(shop.attempts()) == (0 if used else 1)
    if used:
        shop.label(bad=10, good=460)
        assert shop.attempts() == ["500 new labels, 20 of them positive"]


def test_a_model_that_is_watched_late_has_seen_what_its_version_was_trained_on_and_no_more(shop):
    shop.label(bad=60, good=430)
    project = ["--project", str(shop.root)]
    assert CliRunner().invoke(app, ["train", "fraud", *project]).exit_code == 0
    promote = ["registry", "promote", "fraud", "1", "--skip-gate", "by hand", "--reason", "by hand"]
    assert CliRunner().invoke(app, [*promote, *project]).exit_code == 0
    shop.label(bad=20, good=480)
    assert shop.attempts() == ["500 new labels, 20 of them positive"]


def test_versions_from_another_log_or_from_files_say_nothing_of_this_log():
    class Version:
        def __init__(self, digest, stage, log, position):
            self.digest, self.stage = digest, stage
            self._found = type(
                "Manifest", (), {"origin": type("Origin", (), {"log": log, "position": position})}
            )

        def manifest(self):
            return self._found

    class Registry:
        def versions(self, name):
            return {
                "fraud": [
                    Version("a", "Archived", "log", 700),
                    Version("b", "Production", "log", 500),
                    Version("c", "None", "log", 900),
                    Version("d", "Staging", "other", 5_000),
                    Version("e", "Production", "", None),
                ]
            }.get(name, [])

    positions = LearnedPositions(Registry(), "log")
    assert positions.position("fraud") == 700, "what was in use once, also before a rollback"
    assert positions.position("other") is None
