import sqlite3
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context

import pytest

from penstock.core.errors import (
    ArtifactError,
    CorruptionError,
    DefinitionError,
    ModelError,
    NotFoundError,
    StoreError,
)
from penstock.models import registry as registry_module
from penstock.models.registry import DATABASE_NAME, LocalRegistry
from penstock.testing.clock import ManualClock

OTHERS = "time_us, actor, action, name, version, stage, reason, digest"
WHO = {"actor": "ada", "reason": "tested"}


@pytest.fixture
def clock():
    return ManualClock(1_000)


@pytest.fixture
def registry(tmp_path, clock):
    return LocalRegistry(tmp_path / "registry", clock=clock)


@pytest.fixture
def three(registry, files):
    for _ in range(3):
        registry.register(files, **WHO)
    return registry


def set_clock(clock, now_us):
    clock.advance(timedelta(microseconds=now_us - clock.now_us()))


def stages(registry, name="fraud"):
    return {v.version: (v.stage, *v.aliases) for v in registry.versions(name)}


def edit(registry, *statements):
    """Change the database behind the registry's back."""
    connection = sqlite3.connect(registry._folder / DATABASE_NAME)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def register_many(folder, files):
    registry = LocalRegistry(folder, clock=ManualClock(5))
    for _ in range(5):
        registry.register(files, actor="child", reason="race")


def test_versions_are_numbered_by_name(three, files):
    other = replace(files, manifest=replace(files.manifest, name="churn"))
    assert three.register(other, **WHO).label == "churn:1"
    assert [v.label for v in three.versions("fraud")] == ["fraud:1", "fraud:2", "fraud:3"]
    assert three.names() == ("churn", "fraud")
    assert three.get("fraud", 2).files().contents == files.contents


def test_one_version_is_in_production(three):
    three.promote("fraud", 1, **WHO)
    three.promote("fraud", 2, **WHO)
    three.promote("fraud", 3, stage="Staging", **WHO)
    assert stages(three) == {
        1: ("Archived", "previous"),
        2: ("Production", "champion"),
        3: ("Staging", "challenger"),
    }
    three.promote("fraud", "challenger", **WHO)
    assert stages(three) == {1: ("Archived",), 2: ("Archived", "previous"), 3: ("Production", "champion")}


def test_rollback_and_back_again(three):
    three.promote("fraud", 1, **WHO)
    three.promote("fraud", 3, **WHO)
    assert three.rollback("fraud", **WHO).version == 1
    assert stages(three)[3] == ("Archived", "previous")
    assert three.rollback("fraud", **WHO).version == 3


def test_rollback_needs_a_previous_version(three):
    three.promote("fraud", 1, **WHO)
    with pytest.raises(NotFoundError, match=r"no version 'previous'; it has 1 \(champion\), 2, 3"):
        three.rollback("fraud", **WHO)


def test_archiving_the_champion_leaves_none(three):
    three.promote("fraud", 1, **WHO)
    three.archive("fraud", "champion", **WHO)
    assert stages(three)[1] == ("Archived", "previous")
    with pytest.raises(NotFoundError):
        three.get("fraud", "champion")
    assert three.rollback("fraud", **WHO).aliases == ("champion",)


def test_live_at_any_time(three, clock):
    for version in (1, 2):
        set_clock(clock, 10_000 * version)
        three.promote("fraud", version, **WHO)
    set_clock(clock, 30_000)
    three.archive("fraud", 2, **WHO)
    live = [three.live_at("fraud", t) for t in (9_999, 10_000, 19_999, 20_000, 29_999, 30_000)]
    assert [v and v.version for v in live] == [None, 1, 1, 2, 2, None]


def test_a_clock_that_runs_backwards_does_not_reorder_history(three, clock):
    set_clock(clock, 50_000)
    three.promote("fraud", 1, **WHO)
    set_clock(clock, 40_000)
    three.promote("fraud", 2, **WHO)
    assert [row.time_us for row in three.history("fraud")][-2:] == [50_000, 50_000]
    assert three.live_at("fraud", 50_000).version == 2


def test_promoting_again_adds_nothing(three):
    three.promote("fraud", 1, **WHO)
    rows = len(three.history())
    three.promote("fraud", 1, **WHO)
    assert len(three.history()) == rows


def test_history_says_who_what_when_why(three, clock):
    set_clock(clock, 7_000)
    three.promote("fraud", 2, actor="grace", reason="better recall")
    row = three.history("fraud")[-1]
    assert (row.actor, row.action, row.version, row.stage, row.reason, row.time_us) == (
        "grace", "promote", 2, "Production", "better recall", 7_000,
    )  # fmt: skip


@pytest.mark.parametrize("who", [{"actor": " ", "reason": "x"}, {"actor": "x", "reason": ""}])
def test_nobody_acts_without_name_and_reason(who, three):
    with pytest.raises(ModelError, match="Say who acts and why"):
        three.promote("fraud", 1, **who)
    assert stages(three)[1] == ("None",)


@pytest.mark.parametrize("stage", ["Archived", "None", "Live"])
def test_promotion_knows_two_stages(stage, three):
    with pytest.raises(ModelError, match="allowed are Staging and Production"):
        three.promote("fraud", 1, stage=stage, **WHO)


def test_what_does_not_exist_is_answered_with_what_does(three):
    with pytest.raises(NotFoundError, match="no version 9; it has 1, 2, 3"):
        three.get("fraud", 9)
    with pytest.raises(NotFoundError, match="registered are: fraud"):
        three.get("frod", 1)
    assert three.versions("frod") == ()
    assert three.live_at("frod", 10**18) is None
    assert three.get("fraud", "2").version == 2


def test_a_name_cannot_leave_the_folder(registry, files):
    with pytest.raises(DefinitionError, match="Python identifiers"):
        registry.register(replace(files, manifest=replace(files.manifest, name="../evil")), **WHO)


@pytest.mark.parametrize("statement", ["UPDATE history SET actor = 'eve'", "DELETE FROM history"])
def test_sql_refuses_to_change_history(statement, three):
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        edit(three, statement)


@pytest.mark.parametrize(
    "statements",
    [
        ("UPDATE history SET actor = 'eve' WHERE sequence = 2",),
        ("UPDATE history SET time_us = time_us + 1 WHERE sequence = 1",),
        ("UPDATE history SET digest = 'other' WHERE sequence = 3",),
        ("UPDATE history SET hash = 'x' WHERE sequence = 3",),
        ("DELETE FROM history WHERE sequence = 2",),
        ("DELETE FROM history WHERE sequence = 1", "UPDATE history SET sequence = sequence - 1"),
        (
            f"INSERT INTO history (sequence, {OTHERS}, hash) SELECT 4, {OTHERS}, hash FROM history WHERE sequence = 3",
        ),
    ],
)
def test_tampering_is_detected(statements, three):
    assert three.verify() == 3
    edit(three, "DROP TRIGGER history_is_never_changed", "DROP TRIGGER history_is_never_deleted", *statements)
    with pytest.raises(CorruptionError, match="does not follow from the rows before it"):
        three.verify()


def test_cutting_off_the_newest_rows_shows_in_the_head(three):
    head = three.head()
    edit(three, "DROP TRIGGER history_is_never_deleted", "DELETE FROM history WHERE sequence = 3")
    assert three.verify() == 2
    assert three.head() != head


def test_a_changed_file_is_detected(three):
    path = three.get("fraud", 2).folder / "model.ubj"
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"model\.ubj"):
        three.verify()


def test_a_crash_before_the_history_is_written_leaves_no_version(three, files, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(registry_module.history, "append", crash)
        with pytest.raises(KeyboardInterrupt):
            three.register(files, **WHO)
    assert (three._folder / "fraud" / "4").exists()
    assert len(three.versions("fraud")) == 3
    assert three.register(files, **WHO).version == 4
    assert three.verify() == 4


def test_what_a_crash_leaves_aside_is_swept(three, files, monkeypatch):
    def crash(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("penstock.models.artifacts.sync_folder", crash)
        with pytest.raises(KeyboardInterrupt):
            three.register(files, **WHO)
    assert len(list(three._folder.glob(".incoming-*"))) == 1
    three.register(files, **WHO)
    assert list(three._folder.glob(".incoming-*")) == []


def test_processes_may_register_at_once(three, files):
    context = get_context("spawn")
    children = [context.Process(target=register_many, args=(three._folder, files)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert [v.version for v in three.versions("fraud")] == list(range(1, 14))
    assert three.verify() == 13


def test_a_file_that_is_no_registry_is_named(tmp_path, clock):
    (tmp_path / DATABASE_NAME).write_bytes(b"not a database, certainly not" * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        LocalRegistry(tmp_path, clock=clock)


def test_a_registry_survives_reopening(three, clock):
    three.promote("fraud", 2, **WHO)
    again = LocalRegistry(three._folder, clock=clock)
    assert stages(again) == stages(three)
    assert again.head() == three.head()
