"""The command line as a user runs it: the template's whole story, following files, being stopped and being killed."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from penstock.cli.main import app
from penstock.core.errors import StoreError

PENSTOCK = (sys.executable, "-c", "from penstock.cli.main import app; app()")
PATIENCE_S = 120


def run(folder, *arguments, code=0, stdin=None):
    """One command in this process, standing in `folder`; stdout."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    finally:
        os.chdir(before)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def run_json(folder, *arguments, code=0):
    return json.loads(run(folder, *arguments, "--json", code=code))


def start(folder, *arguments, batch_rows=4096):
    """A command in a process of its own."""
    return subprocess.Popen(
        [*PENSTOCK, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PENSTOCK_ENGINE__BATCH_ROWS": str(batch_rows)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition):
    """Poll a condition about another process."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def log_length(folder):
    from penstock.app.runtime import open_reader, store_path

    if not store_path(folder).exists():
        return 0
    try:
        with open_reader(folder) as store:
            return store.next_position
    except StoreError:  # created this moment, and still without tables
        return 0


def reached(folder, engine, length):
    return log_length(folder) >= length or engine.poll() is not None


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The template's project, run, trained, promoted and run again, with what each command printed."""
    folder = tmp_path_factory.mktemp("story")
    said = {"init": run(folder, "init", "shop")}
    project = folder / "shop"
    said["explain"] = run(project, "explain", "checkout")
    said["first"] = run_json(project, "run")
    said["again"] = run_json(project, "run")
    said["train"] = run_json(project, "train", "fraud")
    said["promote"] = run(project, "registry", "promote", "fraud", "1")
    said["second"] = run_json(project, "run", "payments=data/next_week.ndjson")
    return project, said


def test_each_step_names_the_next(story):
    _, said = story
    assert "penstock run" in said["explain"]
    assert "Next: cd shop && penstock explain" in said["init"]
    assert "Next: penstock run" in said["promote"]


def test_running_again_doubles_nothing(story):
    _, said = story
    assert said["first"]["scored"] == 4200
    assert said["first"]["labels"] == 3750
    assert said["again"]["received"] == 0
    assert said["again"]["log_length"] == said["first"]["log_length"] == 7950


def test_the_model_learns_and_decides(story):
    _, said = story
    assert said["train"]["version"] == "fraud:1"
    assert said["train"]["report"]["roc_auc"] > 0.9
    assert all(Path(path).is_file() for path in said["train"]["pictures"].values())
    assert said["first"]["actions"] == {"approve": 4200}
    assert said["second"]["actions"]["block"] > 0


def test_the_parts_of_a_score_add_up_to_it(story):
    project, _ = story
    found = run_json(project, "explain-event", "p04500")
    reasons = found["reasons"]
    assert reasons["space"] == "log-odds"
    parts = sum(one["contribution"] for one in reasons["reasons"])
    score = found["decision"]["score"]
    assert abs(reasons["base"] + parts - math.log(score / (1 - score))) < 1e-6
    assert len(reasons["reasons"]) == 11
    assert "in the last 7d is" in " ".join(one["text"] for one in reasons["reasons"])
    assert "reasons, in log-odds" in run(project, "explain-event", "p04500")
    assert "no model scored it" in run_json(project, "explain-event", "p00001")["no_reasons"]


def test_a_version_is_followed_from_tables_to_decisions(story):
    project, _ = story
    found = run_json(project, "registry", "lineage", "fraud", "1")
    assert found["decisions"] == {"checkout": 1050}
    assert found["log_position"] == 7950
    assert found["dataset"].startswith("ds-")
    assert found["tables"]["events/payments"] >= 0
    assert set(found["views"]) == {"card_spending", "payment", "shop_risk"}
    assert [row["action"] for row in found["life"]] == ["register", "promote"]
    assert len(found["life"][-1]["gate"]) == 64
    assert "1,050 at checkout" in run(project, "registry", "lineage", "fraud")


def test_the_audit_finds_no_difference(story):
    project, _ = story
    report = run_json(project, "audit")
    assert (report["clean"], report["differing"], report["missing"]) == (True, 0, 0)
    assert report["vectors"] == 5250


def test_status_says_what_there_is(story):
    project, _ = story
    status = run_json(project, "status")
    assert status["adds_up"]
    assert status["champions"] == {"checkout": {"model": "fraud", "champion": "fraud:1"}}
    text = run(project, "status")
    assert "5,250 received = 5,250 scored + 0 logged + 0 duplicate + 0 rejected" in text


def test_tables_fit_80_columns(story):
    project, _ = story
    for command in (
        ("explain",),
        ("status",),
        ("audit",),
        ("registry", "list"),
        ("registry", "history"),
        ("registry", "verify"),
    ):
        lines = [line for line in run(project, *command).splitlines() if str(project) not in line]
        assert max(map(len, lines)) <= 80, command


def test_registry_speaks_json(story):
    project, _ = story
    assert run_json(project, "registry", "show", "fraud")["aliases"] == ["champion"]
    assert [row["action"] for row in run_json(project, "registry", "history")] == ["register", "promote"]
    assert run_json(project, "registry", "verify")["clean"]
    run(project, "registry", "show", "nobody", code=2)


def test_replay_and_backfill_agree(story, tmp_path):
    project, _ = story
    run(project, "replay", "--from", 7950, "--to", 9000, "--out", tmp_path / "replay.parquet")
    run(
        project,
        *(
            "backfill",
            "fraud_features",
            "--events",
            "data/next_week.ndjson",
            "--out",
            tmp_path / "backfill.parquet",
        ),
    )
    replayed, filled = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("replay", "backfill"))
    names = [name for name in replayed.column_names if "__" in name]
    assert len(names) == 11
    assert replayed.num_rows == 1050
    assert replayed["payment_id"].to_pylist() == filled["payment_id"].to_pylist()
    for name in names:
        assert replayed[name].to_pylist() == filled[name].to_pylist(), name


def test_score_answers_and_refuses(story):
    project, _ = story
    event = {
        "payment_id": "s1",
        "card_id": "card-001",
        "shop_id": "s",
        "paid_at": "2025-04-06T03:00:00Z",
        "amount": 9.5,
    }
    lines = run(
        project, "score", "payments", json.dumps([event, event, {"payment_id": "s2"}]), "--json", "--features"
    )
    first, second, third = map(json.loads, lines.splitlines())
    assert (first["status"], second["status"], third["reason"]) == ("scored", "duplicate", "missing_field")
    assert first["features"]["payment.amount"] == 9.5
    (project / "one.ndjson").write_text(json.dumps(event))
    again = json.loads(run(project, "score", "payments", "one.ndjson", "--json"))
    assert (again["status"], again["score"]) == ("duplicate", first["score"])


def test_dry_run_touches_nothing(story):
    project, _ = story
    length = log_length(project)
    assert "valid" in run(
        project, "score", "chargebacks", '{"payment_id":"p1","is_fraud":true,"reported_at":1}', "--dry-run"
    )
    assert "not_an_object" in run(project, "score", "payments", "[1]", "--dry-run", code=1)
    assert log_length(project) == length


def test_training_on_files_equals_training_on_the_log(story):
    project, said = story
    files = ("--events", "data/payments.ndjson", "--labels", "data/chargebacks.ndjson")
    trained = run_json(project, "train", "fraud", *files)
    assert trained["report"] == said["train"]["report"]


def test_forget_leaves_nothing(story):
    project, _ = story
    files = [p for p in (project / ".penstock").rglob("*") if p.is_file()]
    assert any(b"card-077" in p.read_bytes() for p in files)
    assert run_json(project, "forget", "card-077", "--entity", "card", "--yes")["events"] > 10
    files = [p for p in (project / ".penstock").rglob("*") if p.is_file()]
    assert [p for p in files if b"card-077" in p.read_bytes()] == []
    assert run_json(project, "audit")["clean"]
    run_json(project, "replay", "--rebuild")
    assert [p for p in files if p.exists() and b"card-077" in p.read_bytes()] == []


def test_forget_asks(story):
    project, _ = story
    run(project, "forget", "card-001", "--entity", "card", code=130, stdin="n\n")
    assert run_json(project, "status")["erasures"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "nix"), "the plan has nothing named 'nix'"),
        (("run", "payments"), "allowed is SOURCE=FILE"),
        (("run", "nix=data/payments.ndjson"), "there are chargebacks, payments"),
        (("run", "payments=nowhere.ndjson"), "no file or folder"),
        (("score", "payments", "nowhere.ndjson"), "there is no file"),
        (("train", "nix"), "the project defines fraud"),
        (("train", "fraud", "--events", "x.csv"), "go together"),
        (("replay", "--rebuild", "--from", "3"), "goes with no other option"),
        (("backfill", "nix", "--events", "a.csv", "--out", "b.parquet"), "there are fraud_features"),
        (("forget", "x", "--entity", "nix", "--yes"), "there are card, shop"),
        (("registry", "promote", "fraud", "1", "--stage", "Live"), "allowed are Production and Staging"),
        (("registry", "promote", "fraud", "99"), "it has no version '99'"),
        (("init", "."), "is not an empty folder"),
    ],
)
def test_mistakes_are_told_with_code_2(story, arguments, message, monkeypatch):
    project, _ = story
    monkeypatch.chdir(project)
    result = CliRunner().invoke(app, list(arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_outside_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 2
    assert "penstock init NAME" in result.stderr


@pytest.fixture
def project(tmp_path):
    run(tmp_path, "init", "shop")
    return tmp_path / "shop"


def identity(folder):
    from penstock.app.runtime import open_reader

    with open_reader(folder) as store:
        return store.counters()


def test_up_follows_and_drains_on_sigterm(project):
    payments = project / "data/payments.ndjson"
    lines = payments.read_text().splitlines(keepends=True)
    payments.write_text("".join(lines[:500]))
    (project / "data/chargebacks.ndjson").write_text("")
    engine = start(project, "up", "--port", "0")
    try:
        wait_until(lambda: log_length(project) >= 500)
        with payments.open("a") as file:
            file.write("".join(lines[500:600]) + lines[600][:20])
        wait_until(lambda: log_length(project) >= 600)
        assert run_json(project, "status")["log_length"] == 600  # beside the running engine
        assert run_json(project, "audit")["clean"]
        run(project, "score", "payments", "{}", code=3)  # one writer a project
        asked = time.monotonic()
        engine.send_signal(signal.SIGTERM)
        out, err = engine.communicate(timeout=PATIENCE_S)
        assert time.monotonic() - asked < 10
    finally:
        engine.kill()
    assert engine.returncode == 0, err
    assert "600 = 600 scored" in out
    counters = identity(project)
    assert counters["received"] == counters["scored"] == 600
    with payments.open("a") as file:
        file.write(lines[600][20:])
    assert run_json(project, "run")["scored"] == 1


def test_killed_anywhere_it_goes_on_exactly(project):
    """kill -9 in the middle; the next run ends as if nothing had happened."""
    for target in (200, 1000):
        engine = start(project, "run", batch_rows=20)
        wait_until(partial(reached, project, engine, target))
        engine.kill()
        engine.communicate()
    assert log_length(project) < 7950, "it was too fast to be killed: the test shows nothing"
    run(project, "run")
    counters = identity(project)
    assert counters["received"] == counters["scored"] == 4200
    assert counters["labels_received"] == 3750
    assert "duplicate" not in counters
    assert run_json(project, "audit")["clean"]


def test_interrupted_run_says_so(project):
    engine = start(project, "run", "--json", batch_rows=20)
    wait_until(partial(reached, project, engine, 100))
    engine.send_signal(signal.SIGINT)
    out, err = engine.communicate(timeout=PATIENCE_S)
    assert engine.returncode == 130, err
    summary = json.loads(out)
    assert summary["interrupted"]
    assert summary["received"] == summary["scored"] < 4200
    assert identity(project)["received"] == summary["received"]


def test_a_pipe_is_scored_as_it_comes(project):
    lines = (project / "data/next_week.ndjson").read_text()
    done = subprocess.run(
        [*PENSTOCK, "run", "payments=-", "--json"],
        cwd=project,
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["scored"] == 1050
