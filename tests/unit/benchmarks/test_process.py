"""Contestants run in their own processes, on the sources that are being measured."""

import sys

from benchmarks.process import run_contestant


def test_a_contestants_module_path_goes_before_ours_and_not_in_its_place(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "ours"))
    code = "import json, os; print(json.dumps({'path': os.environ['PYTHONPATH'].split(os.pathsep)}))"
    run = run_contestant([sys.executable, "-c", code], environment={"PYTHONPATH": "theirs"})
    assert run.report["path"] == ["theirs", str(tmp_path / "ours")]
