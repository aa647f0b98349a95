"""``penstock materialize``: what it prints, and that names it does not know are refused."""

import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from penstock.cli.exits import ExitCode
from penstock.cli.main import app
from tests.unit.app.test_batch_inputs import csv, project_in


@pytest.fixture
def project(tmp_path):
    csv(tmp_path / "users.csv", "a,2026-01-01,30", "b,2026-01-01,x", "a,2190-01-01,31")
    return project_in(tmp_path)


def run(project, *arguments):
    return CliRunner().invoke(app, ["materialize", *arguments, "--project", str(project)])


def test_each_row_is_taken_once(project):
    first, second = run(project, "--json"), run(project, "profile", "--json")
    assert (first.exit_code, second.exit_code) == (ExitCode.OK, ExitCode.OK)
    counts = {"source": "users", "received": 2, "logged": 1, "duplicate": 0, "rejected": 1, "waiting": 1}
    assert json.loads(first.stdout) == {"sources": {"users": counts}, "log_length": 1, "interrupted": False}
    counts |= {"received": 0, "logged": 0, "rejected": 0}
    assert json.loads(second.stdout)["sources"] == {"users": counts}


def test_the_table_for_people(project):
    printed = run(project, "users").stdout
    assert "1 logged, 0 duplicate, 1 rejected, 1 whose time has not come" in printed


def test_other_names_are_refused(project):
    result = run(project, "payments")
    assert result.exit_code == ExitCode.USAGE
    assert "it has users, profile, rows" in result.output


def test_backfill_reads_the_tables_of_batch_sources(project):
    csv(project / "users.csv", "a,2026-01-01,30", "a,2026-01-03,31")
    (project / "events.csv").write_text(
        "id,time,user_id,amount\n1,2026-01-02T00:00:00,a,5\n2,2026-01-04T00:00:00,a,6\n"
    )
    out = project / "out.parquet"
    arguments = [
        "--events",
        str(project / "events.csv"),
        "--out",
        str(out),
        "--project",
        str(project),
        "--json",
    ]
    result = CliRunner().invoke(app, ["backfill", "service", *arguments])
    assert result.exit_code == ExitCode.OK, result.output
    table = pq.read_table(out)
    assert table.column("profile__age").to_pylist() == [30, 31]
    assert table.column("totals__sum").to_pylist() == [5.0, 6.0]
