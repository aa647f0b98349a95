"""``--engine spark`` on the command line, as far as it goes without Spark."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock.cli.by_spark import _sinks
from penstock.cli.main import app
from penstock.core.errors import InputError
from tests.unit.app.fraud_shop import write_project


@pytest.fixture
def project(tmp_path):
    return str(write_project(tmp_path))


def refused(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code != 0
    return f"{result.output} {result.exception}"


def test_an_engine_that_there_is_not(project):
    assert "allowed are local and spark" in refused("run", "--engine", "flink", "--project", project)


def test_options_of_spark_without_it(project):
    assert "they are allowed with --engine spark" in refused("run", "--follow", "--project", project)


def test_spark_that_is_not_installed_says_what_to_install(project, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    events = tmp_path / "events.parquet"
    events.write_bytes(b"")
    said = refused(
        "backfill",
        "service",
        "--events",
        str(events),
        "--out",
        "x",
        "--engine",
        "spark",
        "--project",
        project,
    )
    assert "pip install 'penstock[spark]'" in said


def test_what_a_stream_of_spark_cannot_do(project):
    from penstock.app.spark_stream import _check, service_plan
    from penstock.definitions.project import load_project

    plan = service_plan(load_project(project), "service")
    _check(plan, "service", {"payments": "in"})
    with pytest.raises(InputError, match="it takes payments; given are none"):
        _check(plan, "service", {})


def test_vectors_go_to_a_table_a_topic_or_both():
    topic = "kafka://host:9092/vectors"
    assert _sinks(["lake/vectors", topic]) == (Path("lake/vectors"), topic)
    assert _sinks([topic]) == (None, topic)
    with pytest.raises(InputError, match=r"2 of the kind Delta table: a, b; allowed is one of each kind"):
        _sinks(["a", topic, "b"])
