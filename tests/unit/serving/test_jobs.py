"""Jobs: how they begin, end, fail, are cancelled, and what a restart makes of them."""

import itertools
import os
import signal
import threading
import time

import pytest

from penstock.core.errors import NotFoundError, OverloadError, StoreError
from penstock.serving.job_records import Job, JobFolder, too_many
from penstock.serving.jobs import SERVER_ENDED, Jobs
from penstock.testing.clock import ManualClock
from tests.unit.serving.shop_server import child_command

PATIENCE_S = 60.0


def until(true, what="it to happen"):
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


@pytest.fixture
def made(tmp_path):
    """Makes `Jobs` over one folder; ends them with the test."""
    open_ones = []

    def make(**given):
        command = given.pop("command", None) or child_command(tmp_path)
        jobs = Jobs(tmp_path, clock=ManualClock(1_000_000), command=command, **given)
        open_ones.append(jobs)
        return jobs

    yield make
    for one in open_ones:
        one.close()


def ended(jobs, job):
    until(lambda: job.ended, f"{job.kind} to end")
    return job


def test_a_job_succeeds_and_its_result_is_kept(made):
    jobs = made()
    job = jobs.submit("metrics", {}, actor="ann", reason="to see")
    assert ended(jobs, job).state == "succeeded"
    assert jobs.result(job)["of"] == "metrics"
    again = made()
    kept = again.get(job.id)
    assert (kept.state, kept.actor, kept.reason) == ("succeeded", "ann", "to see")
    assert again.result(kept) == jobs.result(job)


def test_progress_is_heard(made, tmp_path):
    jobs, go = made(), tmp_path / "go"
    job = jobs.submit("metrics", {"steps": 3, "until": str(go)}, actor="ann")
    until(lambda: job.done == 3, "progress")
    assert (job.state, job.total, job.said) == ("running", 3, "step 3")
    go.touch()
    assert ended(jobs, job).state == "succeeded"


def test_an_error_is_told_as_over_http(made):
    jobs = made()
    job = ended(jobs, jobs.submit("drift", {"raise": "NotFoundError"}, actor="ann"))
    assert (job.state, job.error["status"], job.error["type"]) == (
        "failed",
        404,
        "urn:penstock:problem:not_found",
    )
    assert job.error["detail"] == "it is not there"
    assert jobs.result(job) is None
    for other in ("NoSuchError", "os", "DeadlineError"):
        assert ended(jobs, jobs.submit("drift", {"raise": other}, actor="ann")).error["status"] == 500


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"signal": int(signal.SIGKILL)}, "was ended by signal 9"),
        ({"exit": 3, "stderr": "no memory\n"}, "ended with code 3"),
        ({"say": "no JSON", "until": "/nowhere"}, "was ended by signal"),
        ({"exit": 0}, "ended with code 0"),
    ],
)
def test_a_process_that_dies_fails_its_job_alone(made, params, told):
    jobs = made()
    job = ended(jobs, jobs.submit("metrics", params, actor="ann"))
    assert job.state == "failed"
    assert told in job.error["detail"]
    assert params.get("stderr", "") in job.log
    assert ended(jobs, jobs.submit("metrics", {}, actor="ann")).state == "succeeded"


def test_messages_that_mean_nothing_fail_their_job_alone(made):
    jobs = made(at_once=1)
    job = ended(jobs, jobs.submit("metrics", {"say": '{"error": 5}', "until": "/nowhere"}, actor="ann"))
    assert (job.state, job.error["type"]) == ("failed", "urn:penstock:problem:job")
    assert ended(jobs, jobs.submit("metrics", {}, actor="ann")).state == "succeeded"


def test_of_what_a_process_writes_the_end_is_kept(made):
    jobs = made()
    job = ended(
        jobs, jobs.submit("metrics", {"stderr": "0123456789", "times": 200_000, "exit": 1}, actor="ann")
    )
    assert len(job.log) == 8192
    assert job.log.endswith("0123456789")


def test_a_process_that_cannot_be_started_fails_its_job(made):
    jobs = made(command=["/no/such/program"])
    job = ended(jobs, jobs.submit("metrics", {}, actor="ann"))
    assert "could be started" in job.error["detail"]
    with pytest.raises(StoreError):
        jobs.stream({"kind": "rows"})
    with pytest.raises(StoreError):  # the place was given back
        jobs.stream({"kind": "rows"})


def test_one_that_runs_and_one_that_waits_are_cancelled(made, tmp_path):
    jobs, pids = made(at_once=1), tmp_path / "pids"
    running = jobs.submit("metrics", {"note": str(pids), "until": "/nowhere"}, actor="ann")
    waiting = jobs.submit("metrics", {"note": str(pids)}, actor="ann")
    until(pids.exists, "the process")
    jobs.cancel(waiting)
    assert waiting.state == "cancelled"
    jobs.cancel(running)
    assert ended(jobs, running).state == "cancelled"
    (pid,) = pids.read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    jobs.cancel(running)
    assert running.state == "cancelled"


def test_at_most_so_many_run_and_wait(made, tmp_path):
    jobs, pids, go = made(at_once=2, waiting=3), tmp_path / "pids", tmp_path / "go"
    params = {"note": str(pids), "until": str(go)}
    first = [jobs.submit("metrics", params, actor="ann") for _ in range(2)]
    until(lambda: all(job.state == "running" for job in first), "two to run")
    rest = [jobs.submit("metrics", params, actor="ann") for _ in range(3)]
    with pytest.raises(OverloadError, match="at most 3 may"):
        jobs.submit("metrics", params, actor="ann")
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "both processes")
    assert [job.state for job in rest] == ["queued"] * 3
    go.touch()
    for job in (*first, *rest):
        assert ended(jobs, job).state == "succeeded"
    starts = [job.started_us for job in rest]
    assert starts == sorted(starts)


def test_what_ran_when_the_server_died_has_failed_and_what_waited_goes_on(made, tmp_path):
    jobs, go = made(at_once=1), tmp_path / "go"
    running = jobs.submit("metrics", {"until": "/nowhere"}, actor="ann")
    waiting = jobs.submit("drift", {"until": str(go)}, actor="ann")
    until(lambda: running.state == "running", "it to run")
    go.touch()
    after = made(at_once=1)  # as after a kill: the old one did not get to say anything
    assert after.get(running.id).state == "failed"
    assert after.get(running.id).error["detail"] == SERVER_ENDED
    assert ended(after, after.get(waiting.id)).state == "succeeded"


def test_the_server_takes_its_processes_along(made, tmp_path):
    jobs, pids = made(at_once=1), tmp_path / "pids"
    running = jobs.submit("metrics", {"note": str(pids), "until": "/nowhere"}, actor="ann")
    waiting = jobs.submit("metrics", {}, actor="ann")
    until(pids.exists, "the process")
    jobs.close()
    assert (running.state, waiting.state) == ("failed", "queued")
    assert running.error["detail"] == SERVER_ENDED
    with pytest.raises(OverloadError):
        jobs.submit("metrics", {}, actor="ann")


def test_submitting_and_cancelling_from_many_threads(made):
    jobs, found, errors = made(at_once=2, waiting=1000), [], []

    def work(number):
        try:
            for i in range(5):
                job = jobs.submit("metrics", {"steps": 1}, actor=f"{number}")
                found.append(job)
                if i % 2:
                    jobs.cancel(job)
        except Exception as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for job in found:
        assert ended(jobs, job).state in {"succeeded", "cancelled"}
    assert len({job.id for job in found}) == 20


def test_old_jobs_are_removed_with_their_results(tmp_path):
    folder = JobFolder(tmp_path / "jobs")
    jobs = [
        Job(
            id=f"job-{n:024x}",
            kind="metrics",
            params={},
            actor="",
            reason="",
            created_us=n,
            state="succeeded",
        )
        for n in range(6)
    ]
    for job in jobs:
        folder.save_result(job, b"x" * 10)
        folder.save(job)
    running = Job(
        id=f"job-{0:023x}f", kind="metrics", params={}, actor="", reason="", created_us=0, state="running"
    )
    everything = [running, *jobs]
    assert too_many(everything, most=4) == [jobs[1], jobs[0]]
    assert too_many(everything, most=100, most_bytes=25) == [jobs[3], jobs[2], jobs[1], jobs[0]]
    assert too_many(everything, most=100, most_bytes=1) == [jobs[4], jobs[3], jobs[2], jobs[1], jobs[0]]
    folder.remove(jobs[0])
    assert [job.id for job in folder.all()] == [job.id for job in jobs[1:]]
    assert folder.result(jobs[0]) is None


def test_what_is_no_job_is_left_alone(tmp_path, made):
    folder = tmp_path / ".penstock" / "jobs"
    folder.mkdir(parents=True)
    for name, text in (("job-x.json", "{}"), (f"job-{1:024x}.json", "no"), ("notes.txt", "")):
        (folder / name).write_text(text)
    jobs = made()
    assert jobs.all() == []
    for name in ("job-x", "../../etc/passwd", f"job-{1:024x}", ""):
        with pytest.raises(NotFoundError):
            jobs.get(name)
    assert len(list(folder.iterdir())) == 3


def test_a_disk_that_cannot_be_written_is_told(tmp_path, made):
    jobs = made()
    (tmp_path / ".penstock").mkdir()
    (tmp_path / ".penstock" / "jobs").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        jobs.submit("metrics", {}, actor="ann")
    assert jobs.all() == []


class Ticking:
    """A clock of which no two looks are the same."""

    def __init__(self):
        self._ticks = itertools.count(1_000_000)

    def now_us(self):
        return next(self._ticks)


def test_who_looks_at_figures_keeps_nobody_else_waiting(made, tmp_path):
    jobs, go = made(at_once=1, waiting=3), tmp_path / "go"
    jobs._clock = Ticking()
    running = jobs.submit("metrics", {"until": str(go)}, actor="penstock", figures=True)
    until(lambda: running.state == "running")
    figures = [jobs.submit("drift", {"n": i}, actor="penstock", figures=True) for i in range(3)]
    with pytest.raises(OverloadError):
        jobs.submit("drift", {"n": 9}, actor="penstock", figures=True)
    asked = [jobs.submit("retrain", {"n": i}, actor="ann") for i in range(2)]
    go.touch()
    for job in (*figures, *asked):
        ended(jobs, job)
    by_turns = [asked[0], figures[0], asked[1], figures[1], figures[2]]
    assert sorted((*figures, *asked), key=lambda job: job.started_us) == by_turns


def test_what_is_noted_before_keeps_a_job_from_beginning(made):
    jobs, seen = made(), []

    def refuse(job):
        seen.append(job.id)
        raise StoreError("the audit log cannot be written")

    with pytest.raises(StoreError):
        jobs.submit("retrain", {}, actor="ann", before=refuse)
    assert seen
    assert jobs.all() == []
