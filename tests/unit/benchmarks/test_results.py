"""The harness tells a met bar from a missed one, and a right output from a wrong one."""

import json
import sqlite3
import sys

import pytest

from benchmarks import readme_table, stream
from benchmarks.contest import Contestant, hold
from benchmarks.process import ContestantError, run_contestant
from benchmarks.result import Bar, Figure, Result, ratio


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [(2.0, False, True), (1.9, False, False), (2.0, True, True), (2.1, True, False), (None, True, False)],
)
def test_a_bar_is_met_on_its_own_side_only(value, at_most, met):
    assert Bar("x", value, 2.0, at_most=at_most).met is met


def test_a_ratio_needs_both_sides():
    figures = [Figure.median("a", "/s", [30.0, 10.0, 20.0]), Figure.median("b", "/s", [10.0])]
    assert ratio(figures, "a", "b") == 2.0
    assert ratio(figures, "a", "absent") is None


def test_a_result_with_a_failed_contestant_is_not_good():
    result = Result("x", "x", (), (Bar("x", 1.0, 1.0),))
    assert result.good
    assert not Result("x", "x", (), (Bar("x", 1.0, 1.0),), failed={"peer": "gone"}).good


def test_a_contestant_reports_and_its_memory_is_its_own():
    held = bytearray(300 << 20)  # what the parent holds must not count
    run = run_contestant(
        [sys.executable, "-c", "import time; time.sleep(0.1); print('noise'); print('{\"events\": 3}')"]
    )
    assert run.report == {"events": 3}
    assert 1 < run.peak_mb < 100 < len(held) >> 20


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('broken pipe')", "ended with 1: broken pipe"),
        ("print('no json')", "printed no report"),
        ("import time; time.sleep(60)", "ended with -9"),
    ],
)
def test_a_contestant_that_fails_says_why(code, message):
    with pytest.raises(ContestantError, match=message):
        run_contestant([sys.executable, "-c", code], timeout_s=0.5)


def test_turns_are_interleaved_and_a_failing_contestant_is_out():
    said = []
    good = Contestant("good", lambda: [sys.executable, "-c", "print('{}')"], repetitions=2)
    bad = Contestant("bad", lambda: [sys.executable, "-c", "raise SystemExit(3)"], repetitions=2)
    contest = hold([good, bad], said.append)
    assert list(contest.runs) == ["good"]
    assert list(contest.failed) == ["bad"]
    assert [line.split(":")[0].strip() for line in said] == ["good", "bad", "good"]


def write_decisions(path, rows):
    db = sqlite3.connect(path)
    with db:
        db.execute("create table decisions (event_id text, score real, f0 real)")
        db.executemany("insert into decisions values (?, ?, ?)", rows)
    db.close()


@pytest.mark.parametrize(
    ("rows", "differing"),
    [
        ([("a", 0.1, 1.0), ("b", 0.2, 2.0)], 0),
        ([("a", 0.1, 1.0), ("b", 0.2, 2.1)], 1),
        ([("a", 0.1, 1.0)], 1),
        ([("a", 0.1, 1.0), ("b", 0.2, 2.0), ("b", 0.2, 2.0)], 1),
        ([("a", 0.1, 1.0), ("z", 0.2, 2.0)], 1),
        ([("a", 0.1, 1.0), ("b", 0.2, None)], 1),
    ],
)
def test_the_check_finds_wrong_missing_doubled_and_foreign_rows(monkeypatch, tmp_path, rows, differing):
    monkeypatch.setattr(stream, "output_of", lambda name: tmp_path / f"{name}.db")
    write_decisions(tmp_path / "peer.db", rows)
    write_decisions(tmp_path / "reference.db", [("a", 0.1, 1.0), ("b", 0.2, 2.0)])
    reference = stream.decisions_of(tmp_path / "reference.db")
    peer = Contestant("peer", list, events=2)
    assert stream.compare(peer, "reference", reference).differing == differing


def result_file(folder, **changes):
    document = {
        "benchmark": "stream",
        "scale": 1.0,
        "bars": [
            {"what": "rate", "value": 123456.0, "limit": 1e5, "unit": "/s", "at_most": False, "met": True}
        ],
        "machine": {"cpu": "Some CPU", "cores": 2, "memory_gb": 8.0, "python": "3.11"},
    }
    (folder / "stream.json").write_text(json.dumps(document | changes))


def test_the_table_shows_each_bar(tmp_path):
    result_file(tmp_path)
    table = readme_table.render(readme_table.load(tmp_path))
    assert "| stream: rate | 123,456 /s | ≥ 100,000 /s | yes |" in table
    assert "Some CPU, 2 cores, 8 GB" in table


def test_a_shortened_run_never_reaches_the_readme(tmp_path):
    result_file(tmp_path, scale=0.1)
    with pytest.raises(readme_table.ReadmeError, match="shortened runs: stream"):
        readme_table.load(tmp_path)


def test_a_table_that_was_edited_by_hand_is_found(monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# X\n{readme_table.BEGIN}\nold\n{readme_table.END}\nrest\n")
    monkeypatch.setattr(readme_table, "README", readme)
    monkeypatch.setattr(readme_table, "RESULTS", tmp_path)
    result_file(tmp_path)
    assert readme_table.main(["--check"]) == 1
    assert readme_table.main([]) == 0
    assert readme_table.main(["--check"]) == 0
    readme.write_text(readme.read_text().replace("123,456", "999,999"))
    assert readme_table.main(["--check"]) == 1
