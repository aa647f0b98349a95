import pytest

from penstock.app.observing import FILE, PROBLEM, Observing
from penstock.app.runtime import state_folder
from tests.unit.app.observed import feed, observed, send, serve
from tests.unit.app.shop import CLOCK, payments, write_project


@pytest.fixture
def folder(tmp_path):
    return write_project(tmp_path)


def test_totals_are_those_of_the_store(folder):
    with observed(folder) as (runtime, observing):
        serve(runtime)
        feed(runtime, observing, 60)
        totals, store = observing.counts.totals(), runtime.store.counters()
    events = totals.events
    assert totals.received["payments",] == store["received"] == 72
    assert events["payments", "scored"] == store["scored"] == 60
    assert events["payments", "duplicate"] == store["duplicate"] == 6
    assert events["payments", "rejected"] == store["rejected"] == totals.rejected.total() == 6
    assert totals.late["payments", "late"] == store["late"] > 0
    assert totals.late["payments", "too_late"] == store["too_late"] > 0
    assert totals.received["frauds",] == store["labels_received"]
    assert totals.labels["joined",] == store["labels_joined"] == totals.truths.total() > 0
    [(who, arm)] = totals.arms.items()
    assert who == ("endpoint", "champion", "model:1")
    assert {f"action.{name}": count for name, count in arm.taken.items()} == {
        name: count for name, count in store.items() if name.startswith("action.")
    }
    assert arm.alerts == store["action.block"] > 0
    assert arm.scores.sum() == 60
    assert totals.durable_s.counts
    assert totals.durable_s.total > totals.commit_s.total > 0


def test_counting_begins_with_the_process(folder):
    with observed(folder) as (runtime, observing):
        feed(runtime, observing, 10)
    with observed(folder) as (runtime, observing):
        feed(runtime, observing, 10, first=100)
        assert observing.counts.totals().received["payments",] == 12
        assert runtime.store.counters()["received"] == 24


def test_no_model_is_a_flag_and_no_score(folder):
    with observed(folder) as (runtime, observing):
        send(runtime, observing, "payments", payments(5))
        totals = observing.counts.totals()
    assert totals.flags == {("endpoint", "no_model"): 5}
    [(who, arm)] = totals.arms.items()
    assert who == ("endpoint", "", "")
    assert arm.scores.sum() == 0
    assert arm.taken == {"approve": 5}


def test_history_goes_on_over_a_restart(folder):
    with observed(folder) as (runtime, observing):
        with observing.sampling(every_s=0.01):
            feed(runtime, observing, 20)
        before = observing.history.read("hour", now_us=CLOCK.now_us())
    with observed(folder) as (_, observing):
        assert observing.history.read("hour", now_us=CLOCK.now_us()) == before
        assert sum(before["events"]) == 24


def test_a_damaged_history_begins_anew_and_says_so(folder):
    with observed(folder) as (runtime, observing):
        feed(runtime, observing, 10)
        observing.save()
    path = state_folder(folder) / FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with observed(folder) as (runtime, observing):
        assert "damaged" in runtime.problems[PROBLEM]
        assert observing.history.read("hour", now_us=CLOCK.now_us())["events"] == []
        observing.save()
        assert Observing(runtime).history.read("hour", now_us=CLOCK.now_us())["events"] == []


def test_a_full_disk_is_a_problem_and_no_error(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with observed(folder) as (runtime, observing):
        monkeypatch.setattr("penstock.app.observing.save", full)
        observing.save()
        assert "No space left" in runtime.problems[PROBLEM]
        monkeypatch.undo()
        observing.save()
        assert PROBLEM not in runtime.problems
