"""`python -m examples.fraud` on a small world: killed, interrupted, continued, finished, run once more."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import examples.fraud.__main__ as example
from examples.fraud.population import SimulatorConfig
from examples.fraud.world import HERE, World, events_of, labels_of
from penstock.app import open_reader, plan_of
from penstock.app.metering import labelled_decisions
from penstock.definitions.project import load_project
from penstock.engine.audit import audit
from penstock.kernel.columns import Columns
from tests.e2e.published_features import published_features
from tests.unit.examples.creditcard_file import write_creditcard

REPOSITORY = Path(__file__).parents[2]
TINY = SimulatorConfig(customers=300, terminals=1_500, radius=9.0)
SCRIPT = """
import sys
import examples.fraud.__main__ as example
from examples.fraud.population import SimulatorConfig
example.SMALL = SimulatorConfig(customers=300, terminals=1_500, radius=9.0)
sys.exit(example.main(sys.argv[1:]))
"""
DURABLE_LINE = re.compile(r"/s  p50 \d")  # some micro-batches are committed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fraud")


def stop_when_live(folder, number):
    """Run the example, send the signal when the first latencies appear; exit code and output."""
    command = [sys.executable, "-c", SCRIPT, "--small", "--rate=4000", f"--folder={folder}"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    lines = []
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        for line in run.stdout:
            lines.append(line)
            if DURABLE_LINE.search(line):
                run.send_signal(number)
                break
        lines += run.stdout
    return run.returncode, "".join(lines)


@pytest.fixture(scope="module")
def finished(folder):
    """The example killed in the live part, then interrupted, then run to its end."""
    killed, output = stop_when_live(folder, signal.SIGKILL)
    assert killed == -signal.SIGKILL, output
    before = counters(folder)
    code, interrupted = stop_when_live(folder, signal.SIGINT)
    between = counters(folder)
    patch = pytest.MonkeyPatch()
    patch.setattr(example, "SMALL", TINY)
    try:
        last = example.main(["--small", f"--folder={folder}"])
        yield before, (code, interrupted), between, last
    finally:
        patch.undo()


@pytest.fixture(scope="module")
def world(folder):
    return World(TINY, folder)


def counters(folder):
    with open_reader(folder) as store:
        return store.counters()


def test_it_continues_after_a_kill_and_an_interruption(finished, world):
    before, (code, output), between, last = finished
    total = world.between(world.live_start).num_rows
    assert 0 < before["scored"] < between["scored"] < total
    assert code == 130
    assert "Continuing after" in output
    assert "Interrupted, drained." in output
    assert "Run it again to continue" in output
    assert last == 0


def test_every_payment_is_in_the_log_once_and_decided_once(finished, folder, world):
    wanted = world.with_history(world.live_start)["transaction_id"].to_numpy()
    live = world.between(world.live_start)["transaction_id"].to_numpy()
    ids, positions = logged_ids(folder)
    np.testing.assert_array_equal(ids, wanted)
    with open_reader(folder) as store:
        decided = np.concatenate([p for p, _, _ in labelled_decisions(store, "checkout")])
        found = store.counters()
    np.testing.assert_array_equal(ids[np.searchsorted(positions, decided)], live)
    assert found["received"] == found["scored"] + found["logged"] == len(wanted)
    assert found.get("duplicate", 0) == found.get("rejected", 0) == 0


def test_the_served_vectors_are_the_published_features(finished, folder, world):
    ids, positions = logged_ids(folder)
    expected = published_features(world.table).to_numpy(np.float64)
    with open_reader(folder) as store:
        parts = [(p, d.vectors) for p, d, _ in labelled_decisions(store, "checkout")]
    served = np.concatenate([vectors for _, vectors in parts])
    rows = ids[np.searchsorted(positions, np.concatenate([p for p, _ in parts]))]
    assert served.shape == (len(rows), 15)
    np.testing.assert_allclose(served, expected[rows], rtol=0, atol=1e-9)


def test_the_audit_is_clean_and_labels_older_than_a_week_are_joined(finished, folder, world):
    plan = plan_of(load_project(HERE))
    with open_reader(folder) as store:
        report = audit(store, plan)
        labels = [known for _, _, known in labelled_decisions(store, "checkout")]
    assert report.clean
    assert report.vectors == world.between(world.live_start).num_rows
    truth = world.between(world.live_start)["is_fraud"].to_numpy()
    known = np.concatenate(labels)
    pending = np.isnan(known)
    assert 0.1 < pending.mean() < 0.2  # the last of six and a half weeks
    assert not pending[: np.argmax(pending)].any()
    np.testing.assert_array_equal(known[~pending], truth[~pending])


def test_the_report_stands_alone(finished, folder):
    page = (folder / "reports" / "report.html").read_text()
    assert "0 differing" in page
    assert page.count("<svg") >= 6
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)


def test_a_finished_run_says_so_and_reports_again(finished, folder, capsys):
    assert example.main(["--small", f"--folder={folder}"]) == 0
    output = capsys.readouterr().out
    assert "are decided already" in output
    assert "--reset" in output
    assert "average precision" in output
    assert max(map(len, output.replace(str(folder), "").splitlines())) <= 80


def test_kaggles_file_is_streamed_trained_and_scored(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    write_creditcard(tmp_path / "data" / "creditcard.csv", rows=6_000, frauds=120)
    assert example.main(["--creditcard", f"--folder={tmp_path}"]) == 0
    found = counters(tmp_path)
    assert found["received"] == found["scored"] + found["logged"] == 6_000
    assert found["scored"] > 500
    assert "0 differing" in capsys.readouterr().out


def test_a_missing_file_is_said_in_one_line(tmp_path, capsys):
    assert example.main(["--creditcard", f"--folder={tmp_path}"]) == 3
    error = capsys.readouterr().err
    assert "creditcard.csv: no such file" in error
    assert "Traceback" not in error


def test_labels_come_a_week_after_their_payments_and_truth_stays_out_of_events(finished, world):
    table = world.between(world.live_start).slice(0, 10)
    labels = labels_of(table)
    delay = np.asarray(labels["reported_at"]) - np.asarray(table["timestamp"])
    assert set(delay / np.timedelta64(1, "D")) == {7.0}
    assert "is_fraud" not in events_of(table).column_names


def logged_ids(folder):
    """Transaction ids and positions of the log, in log order."""
    with open_reader(folder) as store:
        parts = [
            (b.positions, Columns.from_bytes(b.payload)["transaction_id"].values)
            for b in store.read_log(sources={"transactions"})
        ]
    return np.concatenate([ids for _, ids in parts]), np.concatenate([positions for positions, _ in parts])
