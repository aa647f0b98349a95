"""The audit beside a run: it compares what `penstock audit` compares, once, wherever it is stopped; and disturbs nobody."""

import time
from dataclasses import replace

import pytest
from msgspec import structs

from penstock.app import Runtime, changing, open_reader, plan_of
from penstock.app.auditing import AuditBeside, AuditTotals, follow, main, read_totals, save_totals
from penstock.app.changing import plan_change
from penstock.app.overview import overview
from penstock.app.settings import AuditSettings, Settings
from penstock.core.errors import ProjectError
from penstock.definitions.project import load_project
from penstock.engine.audit import audit
from penstock.engine.decisions import Decisions
from penstock.engine.features import FeatureState
from penstock.engine.running_audit import RunningAudit
from penstock.stores.reader import ProjectReader
from tests.unit.app.shop import CLOCK, DEFINITIONS, feed, open_project, write_project

EVENTS, VALUES = 140, 140 * 8


@pytest.fixture
def project(tmp_path):
    folder = write_project(tmp_path / "shop")
    with open_project(folder) as runtime:
        feed(runtime, EVENTS)
    return folder


def until(rounds):
    """Ends after so many waits."""
    left = iter(range(rounds))
    return lambda _: next(left, None) is None


def forged(monkeypatch, position):
    """Let the store give another vector for the decision at a position."""
    read = ProjectReader.read_decisions

    def lying(self, *args, **kwargs):
        for batch in read(self, *args, **kwargs):
            decisions = Decisions.from_bytes(batch.payload)
            vectors = decisions.vectors.copy()
            vectors[batch.positions == position] += 1.0
            yield replace(batch, payload=structs.replace(decisions, vectors=vectors).to_bytes())

    monkeypatch.setattr(ProjectReader, "read_decisions", lying)


@pytest.mark.parametrize("rows", [1, 3, 50, 4096])
def test_in_stretches_it_finds_what_the_whole_audit_finds(project, rows):
    plan = plan_of(load_project(project))
    with open_reader(project) as store:
        whole = audit(store, plan)
        running = RunningAudit(store, FeatureState(plan))
        while running.step(rows):
            pass
    assert (
        (running.report.vectors, running.report.values) == (EVENTS, VALUES) == (whole.vectors, whole.values)
    )
    assert running.report.clean
    assert running.report.missing == whole.missing == 0


def test_it_goes_on_where_it_was_and_compares_nothing_twice(project):
    for rounds in (1, 2, 1, 2, 5):
        follow(project, rate=1.0, ended=until(rounds))
    totals = read_totals(project)
    assert (totals.vectors, totals.values, totals.differing, totals.jumped) == (EVENTS, VALUES, 0, 0)
    with open_project(project) as runtime:
        feed(runtime, 30, seed=5, first=EVENTS)
    follow(project, rate=1.0, ended=until(5))
    totals = read_totals(project)
    assert totals.vectors == EVENTS + 30
    assert overview(project).counters["audit_vectors"] == EVENTS + 30
    assert overview(project).to_dict()["audit"]["differing"] == 0


def test_a_differing_value_is_counted_and_named(project, monkeypatch):
    with open_reader(project) as store:
        position = next(iter(store.read_decisions())).positions[0]
    forged(monkeypatch, position)
    totals = follow(project, rate=1.0, ended=until(3))
    assert totals.differing > 0
    assert f"at {position}:" in totals.examples[0]
    assert "differ" in totals.text()


def test_far_behind_it_jumps_to_the_newest_snapshot_unless_all_is_asked(project):
    with open_project(project) as runtime:
        end = runtime.engine.position
    skipped = follow(project, rate=0.5, ended=until(3), far_behind=10)
    assert (skipped.vectors, skipped.jumped, skipped.position) == (0, end, end)
    (project / ".penstock" / "audit.json").unlink()
    everything = follow(project, rate=1.0, ended=until(3), far_behind=10)
    assert (everything.vectors, everything.jumped) == (EVENTS, 0)


def test_it_never_removes_a_snapshot(project, monkeypatch):
    """A snapshot that is newer than the log as it sees it was taken a moment ago by the run."""
    snapshots = sorted((project / ".penstock" / "snapshots").iterdir())
    assert snapshots
    monkeypatch.setattr(ProjectReader, "next_position", property(lambda _: 5))
    follow(project, rate=0.5, ended=until(2), far_behind=1)
    assert sorted((project / ".penstock" / "snapshots").iterdir()) == snapshots


def test_it_waits_so_that_its_share_is_kept(project):
    waits = []

    def ended(seconds):
        waits.append(seconds)
        return len(waits) > 2

    spent = time.process_time()
    follow(project, rate=0.05, ended=ended)
    spent = time.process_time() - spent
    assert 0 < waits[1] <= 19.01 * spent
    assert waits[2] == 0.5  # nothing left to do: it looks again later


def test_totals_of_another_store_do_not_count(project):
    save_totals(project, AuditTotals(store_id="other", position=10**9, vectors=10**9))
    assert follow(project, rate=1.0, ended=until(3)).vectors == EVENTS


def test_what_goes_wrong_is_told_and_ends_it(project):
    (project / "definitions.py").write_text("import nothing_of_this_name\n")
    assert main(project) == 1
    assert "nothing_of_this_name" in read_totals(project).error
    assert read_totals(project).text().startswith("audit ended: ")


def test_a_damaged_file_of_totals_is_as_none(project):
    (project / ".penstock" / "audit.json").write_bytes(b"{")
    assert read_totals(project) is None
    assert overview(project).audit is None


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_the_process_beside_a_run_audits_it_and_ends_with_it(project):
    settings = Settings(audit=AuditSettings(rate=1.0))
    with Runtime.open(project, settings=settings, clock=CLOCK) as runtime:
        beside = AuditBeside(project, settings.audit.rate, start_after_s=0.0)
        with beside:
            beside.look()
            feed(runtime, 30, seed=5, first=EVENTS)
            wait_for(lambda: beside.look() == f"audit {EVENTS + 30:,} vectors, 0 differ")
        assert beside._child.returncode is not None


def test_a_short_run_starts_none(project):
    now = iter([0.0, 1.0, 1.9])
    with AuditBeside(project, 0.1, now_s=lambda: next(now)) as beside:
        assert beside.look() == beside.look() == ""
    assert not beside.started


def test_rate_zero_starts_none(project):
    with AuditBeside(project, 0.0, start_after_s=0.0) as beside:
        assert beside.look() == ""
    assert not beside.started


OTHER = DEFINITIONS.replace('"max", time_window=24 * HOUR', '"min", time_window=24 * HOUR')
assert OTHER != DEFINITIONS


def changed_while_following(project, definitions, *, taken_over=True):
    """The totals after a change that the engine takes over a while after it was applied."""
    changing.apply(plan_change(load_project(project)), project, actor="ann", reason="first")
    with open_project(project) as runtime:

        def put_in_force():
            write_project(project, definitions)
            changing.apply(plan_change(load_project(project)), project, actor="ann", reason="test")

        def send(first):
            feed(runtime, 20, seed=first, first=first)

        script = [
            lambda: None,
            put_in_force,
            lambda: send(EVENTS),
            lambda: None,
            lambda: send(EVENTS + 20),
            lambda: taken_over and runtime.adopt(runtime.prepare(load_project(project))),
            lambda: send(EVENTS + 40),
            *[lambda: None] * 5,
        ]
        steps = iter(script)

        def ended(_):
            step = next(steps, None)
            if step is not None:
                step()
            return step is None

        return follow(project, rate=1.0, ended=ended)


@pytest.mark.parametrize("taken_over", [True, False])
def test_other_definitions_are_taken_over_where_they_began_to_decide(project, taken_over):
    totals = changed_while_following(project, OTHER, taken_over=taken_over)
    assert (totals.vectors, totals.differing, totals.missing) == (EVENTS + 60, 0, 0)
    assert totals.skipped == 0
    with open_reader(project) as store:
        assert totals.position == store.next_position


def test_decisions_of_an_endpoint_that_is_gone_are_said_to_be_skipped(project):
    without = DEFINITIONS[: DEFINITIONS.index("endpoint = Endpoint")]
    totals = changed_while_following(project, without)
    assert (totals.vectors, totals.skipped) == (EVENTS, 40)
    assert (totals.differing, totals.missing) == (0, 0)
    assert "of other definitions skipped" in totals.text()


def test_what_was_served_under_other_definitions_is_counted(project):
    write_project(project, OTHER)
    totals = follow(project, rate=1.0, ended=until(3))
    assert (totals.vectors, totals.skipped) == (0, EVENTS)


def test_files_that_were_changed_after_they_were_applied_end_the_audit(project):
    with pytest.raises(ProjectError, match="not those of version 2"):
        edited(project)


def edited(project):
    changing.apply(plan_change(load_project(project)), project, actor="ann", reason="first")
    rounds = iter(range(9))

    def ended(_):
        number = next(rounds, None)
        if number == 2:
            write_project(project, OTHER)
            changing.apply(plan_change(load_project(project)), project, actor="ann", reason="test")
            write_project(project, DEFINITIONS)
        return number is None

    return follow(project, rate=1.0, ended=ended)
