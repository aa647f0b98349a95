"""With which definitions a worker opens a shard: the newest that were applied, where they can be taken."""

from types import SimpleNamespace

import pytest

from penstock.app.applied import AppliedHistory
from penstock.app.changing import apply, ensure_applied, plan_change
from penstock.app.in_force import InForce
from penstock.app.runtime import plan_of, state_folder
from penstock.app.worker import Worker, WorkerStatus, worker_statuses
from penstock.core.errors import InputError, ProjectError
from penstock.definitions.project import load_project
from tests.unit.app.test_changing import AFTER, BEFORE

STAGE = SimpleNamespace(planned=plan_of, topics=SimpleNamespace(readers={"payments": None}))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "definitions.py").write_text(BEFORE)
    return tmp_path


@pytest.fixture
def in_force(root):
    project = load_project(root)
    ensure_applied(project, actor="ann")
    return InForce(project, 1)


def applied(root, text=AFTER):
    (root / "definitions.py").write_text(text)
    apply(plan_change(load_project(root)), root, actor="ann", reason="test")


def taken(in_force, stage=STAGE):
    project, version = in_force.now(stage)
    return sorted(project.services), version


def test_those_of_its_start_until_others_are_applied(root, in_force):
    (root / "definitions.py").write_text(AFTER)
    assert taken(in_force) == (["service"], 1)
    applied(root)
    assert taken(in_force) == (["more", "service"], 2)


def test_files_that_are_not_what_was_applied_are_not_taken(root, in_force):
    applied(root)
    (root / "definitions.py").write_text(AFTER.replace("days=1", "days=2"))
    assert taken(in_force) == (["service"], 1)


def test_nor_files_that_cannot_be_loaded(root, in_force):
    applied(root)
    (root / "definitions.py").write_text("nothing(")
    assert taken(in_force) == (["service"], 1)


def test_nor_those_that_a_shard_cannot_compute(root, in_force):
    applied(root)

    def refused(_):
        raise ProjectError("not in this partition")

    stage = SimpleNamespace(planned=refused, topics=STAGE.topics)
    assert taken(in_force, stage) == (["service"], 1)


def test_nor_those_without_a_source_that_is_read(root, in_force):
    applied(root)
    stage = SimpleNamespace(planned=plan_of, topics=SimpleNamespace(readers={"payments": None, "gone": None}))
    assert taken(in_force, stage) == (["service"], 1)


def test_stages_are_not_begun_beside_those_of_another_version(root, in_force, monkeypatch):
    assert in_force.now(STAGE)[1] == 1
    (root / "penstock.toml").write_text('[kafka]\nrepartition_by = ["shop_id"]\n')
    others = [WorkerStatus(7, {}, [], {}, version=AppliedHistory(state_folder(root)).newest_version() + 1)]
    assert worker_statuses(root) == []
    monkeypatch.setattr("penstock.app.worker.worker_statuses", lambda _: others)
    with pytest.raises(InputError, match="process 7 sends events on by version 2"):
        Worker(root)
