"""``penstock train`` and ``penstock run`` with a model that goes on learning."""

import json

import pytest
from typer.testing import CliRunner

from penstock.cli.exits import ExitCode
from penstock.cli.main import app
from tests.unit.app import shop
from tests.unit.app.test_learning import project_in

pytest.importorskip("river")


def penstock(root, *arguments):
    return CliRunner().invoke(app, [*arguments, "--project", str(root)])


def written(path, rows):
    path.write_text("".join(json.dumps(row, default=lambda at: at.isoformat()) + "\n" for row in rows))
    return path


def fed(root, first, count):
    rows = sorted(shop.payments(count, seed=first, first=first), key=lambda row: row["at"])
    payments = written(root / f"payments{first}.ndjson", rows)
    frauds = written(
        root / f"frauds{first}.ndjson", sorted(shop.labels(rows), key=lambda row: row["known_at"])
    )
    return penstock(root, "run", f"payments={payments}", f"frauds={frauds}")


def test_the_past_is_learned_by_train_and_the_present_by_run(tmp_path):
    root = project_in(tmp_path / "shop")
    assert fed(root, 0, 300).exit_code == ExitCode.OK
    trained = penstock(root, "train", "model", "--json")
    assert trained.exit_code == ExitCode.OK, trained.output
    report = json.loads(trained.stdout)
    assert report["report"]["rows"] > 50
    assert (
        penstock(root, "registry", "promote", "model", "1", "--skip-gate", "few labels").exit_code
        == ExitCode.OK
    )
    ran = fed(root, 300, 200)
    assert ran.exit_code == ExitCode.OK, ran.output
    assert "labels learned" in ran.stdout
    assert "behind" not in ran.stdout


def test_files_of_their_own_are_refused(tmp_path):
    root = project_in(tmp_path / "shop")
    rows = written(root / "rows.ndjson", shop.payments(3))
    refused = penstock(root, "train", "model", "--events", str(rows), "--labels", str(rows))
    assert refused.exit_code == ExitCode.USAGE
    assert "goes on learning" in refused.output
