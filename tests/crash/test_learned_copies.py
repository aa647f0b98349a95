"""Kills and power cuts of a learner: the copies that it kept are there, bit by bit, and a learner that goes on has those of one that was never cut."""

from __future__ import annotations

import random
import shutil
from unittest.mock import patch

import pytest

from penstock.app.learning import Learning
from penstock.app.runtime import open_reader, plan_of
from penstock.definitions.project import load_project
from penstock.models import copies_log, learned_copies
from penstock.models.copies_log import CopiesLog, kept_copies
from penstock.models.published import encode
from tests.crash.killed_copies import KEPT, copy_of
from tests.crash.nursery import Nursery
from tests.crash.power_files import PowerFolder, PowerSyncs
from tests.unit.app import shop
from tests.unit.app.test_learning import project_in

COPIES = 90


class Off(Exception):  # noqa: N818 - no error
    """The power is off."""


class AppendedFolder(PowerFolder):
    """A folder with a file that is appended to: what was synced of it stays, whether or not its name was synced since.

    What was appended since its last sync is torn, and may be nothing but zeros.
    """

    def sync_directory(self):
        self.settled = {path.name: path.stat().st_ino for path in self._files()}

    def cut(self):
        now = {path.name: path.stat().st_ino for path in self._files()}
        left = {path.stat().st_ino: self._after(path) for path in self._files()}
        self.remains = {}
        for name in sorted(now.keys() | self.settled.keys()):
            inode = self.chance.choice((self.settled.get(name), now.get(name)))
            if inode is not None:
                self.remains[name] = left.get(inode, self.contents.get(inode, b""))

    def _after(self, path):
        found = super()._after(path)
        data = path.read_bytes()
        if data.startswith(found) and len(data) > len(found):
            more = data[len(found) : len(found) + self.chance.randrange(len(data) - len(found) + 1)]
            found += self.chance.choice((more, b"\0" * len(more)))
        return found


@pytest.fixture
def bounded(monkeypatch):
    monkeypatch.setattr(learned_copies, "MOST", KEPT)
    monkeypatch.setattr(copies_log, "_SPARE_BYTES", 0)


def check(found, *, acknowledged):
    """All that was acknowledged, as far as it is kept, and of what came after a beginning: each as it was published."""
    numbers = [copy.labels for copy in found]
    newest = numbers[-1] if numbers else -1
    assert newest >= acknowledged
    assert numbers == list(range(max(0, newest - KEPT + 1), newest + 1))
    assert [encode(copy) for copy in found] == [encode(copy_of(number)) for number in numbers]


def cut_off(folder, at, chance):
    """Keep copies until the power goes off at the sync number `at`; the remains, what was acknowledged, and whether it did."""
    power, syncs, acknowledged = AppendedFolder(folder, chance), 0, -1

    def operate():
        nonlocal syncs
        syncs += 1
        if syncs == at:
            power.cut()
            raise Off

    power.start()
    log = CopiesLog(folder)
    switch = PowerSyncs([power], operate)
    with patch("os.fsync", switch.sync):
        try:
            for number in range(COPIES):
                log.add(copy_of(number))
                if number % 3 == 2:
                    log.save()
                    acknowledged = number
        except Off:
            return power, acknowledged, True
        finally:
            power.close()
    return power, acknowledged, False


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("bounded")
def test_a_power_cut_at_any_moment_leaves_what_was_acknowledged(tmp_path, seed):
    chance, at, rewritten = random.Random(seed), 0, False
    while True:
        at += 1
        root = tmp_path / str(at)
        power, acknowledged, was_cut = cut_off(root / "online" / "m" / "1", at, chance)
        if not was_cut:
            break
        rewritten |= any(power.path.glob(".copies.log.tmp"))
        again = root / "again" / "m" / "1"
        power.restore(again)
        shutil.copy(root / "online" / "key", root / "again" / "key")
        check(kept_copies(again).all(), acknowledged=acknowledged)
        log = CopiesLog(again)
        first = 0 if log.copies.newest is None else log.copies.newest.labels + 1
        for number in range(first, first + 5):
            log.add(copy_of(number))
        log.save()
        check(kept_copies(again).all(), acknowledged=first + 4)
    assert at > COPIES // 3
    assert rewritten, "it must have been cut while the file was written anew, too"


@pytest.mark.parametrize("kills", [25, pytest.param(400, marks=pytest.mark.nightly)])
@pytest.mark.usefixtures("bounded")
def test_a_kill_at_any_moment_leaves_what_was_acknowledged(tmp_path, kills):
    chance, folder = random.Random(kills), tmp_path / "online" / "m" / "1"
    nursery = Nursery("tests.crash.killed_copies")
    try:
        for _ in range(kills):
            acknowledged = nursery.kill_one(folder, delay=chance.uniform(0, 0.03))
            check(kept_copies(folder).all(), acknowledged=-1 if acknowledged is None else acknowledged)
    finally:
        nursery.close()
    assert kept_copies(folder).newest.labels > KEPT


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = project_in(tmp_path_factory.mktemp("learner") / "shop")
    with shop.open_project(root) as runtime:
        shop.feed(runtime, 300)
    return root


def learn(root, states, *, rows=40, saved=None):
    """A learner that saves after each step, and notes which copies were on disk then."""
    loaded = load_project(root)
    with open_reader(root) as store:
        learning = Learning(plan_of(loaded), loaded.models["model"], store=store, states=states)
        while learning.progress.behind:
            learning.step(rows)
            learning.save()
            if saved is not None:
                saved[:] = [copy.labels for copy in learning._copies.copies.all()]
        return learning.started_from


def copies_in(folder):
    return {copy.labels: encode(copy) for copy in kept_copies(folder).all()}


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(2, 12))]
)
def test_a_learner_that_was_cut_off_has_the_copies_of_one_that_never_was(project, tmp_path, seed):
    whole = tmp_path / "whole" / "model" / "1"
    learn(project, whole, rows=1)
    expected = copies_in(whole)  # at every point at which a copy may be published
    assert len(expected) > 4
    chance, at, resumed = random.Random(seed), 0, 0
    while True:
        at += chance.randrange(4, 13)
        folder = tmp_path / f"cut{at}" / "model" / "1"
        power, syncs, saved = AppendedFolder(folder, chance), 0, []

        def operate(power=power, at=at):
            nonlocal syncs
            syncs += 1
            if syncs == at:
                power.cut()
                raise Off

        power.start()
        switch = PowerSyncs([power], operate)
        try:
            with patch("os.fsync", switch.sync):
                learn(project, folder, saved=saved)
            break
        except Off:
            power.close()
        again = tmp_path / f"again{at}" / "model" / "1"
        power.restore(again)
        shutil.copy(folder.parents[1] / "key", again.parents[1] / "key")
        resumed += learn(project, again) == "state"
        found = copies_in(again)
        assert found.keys() >= {*saved, max(expected)}
        assert found.items() <= expected.items(), "to the last bit"
        for name in ("state.bin", "copy.bin"):
            assert (again / name).exists()
    assert resumed, "some went on from a saved state"
