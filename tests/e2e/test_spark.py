"""Spark beside the embedded engine: the same definitions, the same rows, 0 differing bits. One Spark for all tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from pyarrow import parquet

from penstock.engine.feature_stream import part_table
from penstock.engine.features import FeatureState
from penstock.engine.frames import arrow_type
from penstock.engine.history import features_from_log
from penstock.engine.training_set import features_for_frame
from penstock.plan.compile import compile_plan, source_node
from penstock.testing import streams
from tests.e2e.spark import definitions as project
from tests.external_environments import environment_python
from tests.laws.parity import engine_of, store_in
from tests.laws.test_engine_parity import WINDOWS_US

ROOT = Path(__file__).parents[2]
FILES = 4
SPARK = (
    "--master local[2]",
    "--conf spark.ui.enabled=false",
    "--conf spark.sql.shuffle.partitions=2",
    "--conf spark.driver.memory=1g",
    "pyspark-shell",
)


def table_of(steps, source):
    schema = pa.schema([(f.name, arrow_type(f.dtype)) for f in source_node(source).fields])
    records = [{k: finite(v) for k, v in step.record.items()} for step in steps if step.source == source.name]
    return pa.Table.from_pylist(records, schema=schema)


def finite(value):
    return None if isinstance(value, float) and value - value != 0 else value


@pytest.fixture(scope="module")
def steps():
    random = Random(11)
    paid = streams.events(random, 300, source=project.payments, windows_us=WINDOWS_US)
    seen = streams.events(random, 120, source=project.logins, windows_us=WINDOWS_US)
    labelled = streams.labelled(random, paid, labels=project.chargebacks, delay_us=60_000_000)
    return streams.interleaved(random, labelled, seen)


@pytest.fixture(scope="module")
def tables(steps):
    return {s.name: table_of(steps, s) for s in (project.payments, project.logins, project.chargebacks)}


@pytest.fixture(scope="module")
def asked(tables):
    """Events of the history, some of them twice, and others that it does not hold, in no order."""
    rows = tables["payments"].to_pylist()
    strangers = [{**row, "id": f"stranger{i}"} for i, row in enumerate(rows[::3])]
    mixed = [*rows[::2], *strangers, *rows[::5]]
    Random(3).shuffle(mixed)
    return pa.Table.from_pylist(mixed, schema=tables["payments"].schema)


@pytest.fixture(scope="module")
def streamed(tables):
    """Per source its events, each once, in files: what each micro-batch takes."""
    first = {row["id"]: row for row in reversed(tables["payments"].to_pylist())}
    paid = [row for row in tables["payments"].to_pylist() if first.pop(row["id"], None) is not None]
    paid = pa.Table.from_pylist(paid, schema=tables["payments"].schema)
    return {"payments": cut(paid), "logins": cut(tables["logins"])}


def cut(table):
    rows = -(-table.num_rows // FILES)
    return [table.slice(i * rows, rows) for i in range(FILES)]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tables, asked, streamed):
    """The folder in which Spark's work lies."""
    python = environment_python("spark")
    folder = tmp_path_factory.mktemp("spark")
    for name in ("logins", "chargebacks"):
        parquet.write_table(tables[name], folder / f"{name}.parquet")
    (folder / "payments").mkdir()
    for i, part in enumerate(cut(tables["payments"])):
        parquet.write_table(part, folder / "payments" / f"{i}.parquet", row_group_size=20)
    parquet.write_table(asked, folder / "asked.parquet")
    rows = tables["payments"].slice(0, 5).to_pylist()
    conflict = pa.Table.from_pylist([*rows, {**rows[1], "shop_id": 77}], schema=tables["payments"].schema)
    parquet.write_table(conflict, folder / "conflict.parquet")
    for name, parts in streamed.items():
        (folder / "stream" / name).mkdir(parents=True)
        (folder / "later").mkdir(exist_ok=True)
        for i, part in enumerate(parts[:-1]):
            file = folder / "stream" / name / f"{i}.parquet"
            parquet.write_table(part, file)
            os.utime(file, (1_700_000_000 + i, 1_700_000_000 + i))
        parquet.write_table(parts[-1], folder / "later" / f"{name}.parquet")
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "SPARK_LOCAL_IP": "127.0.0.1"}
    env |= {"PYSPARK_SUBMIT_ARGS": " ".join(SPARK)}
    work = subprocess.run(
        [python, str(ROOT / "tests/e2e/spark/work.py"), str(folder)],
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert work.returncode == 0, work.stderr[-4000:]
    return folder


def read(folder):
    return pa.concat_tables([parquet.read_table(file) for file in sorted(folder.glob("*.parquet"))])


def assert_same(found, wanted):
    assert found.num_rows == wanted.num_rows
    for name in wanted.column_names:
        assert repr(found[name].to_pylist()) == repr(wanted[name].to_pylist()), name


def test_a_backfill_with_late_repeated_and_labelled_events(made, tables):
    history = {name: tables[name] for name in ("logins", "chargebacks")}
    wanted = features_for_frame(project.everything.features, tables["payments"], history=history)
    assert_same(read(made / "own"), wanted.to_arrow())


def test_a_backfill_of_events_some_of_which_are_in_the_history(made, tables, asked):
    wanted = features_for_frame(project.everything.features, asked, history=tables)
    assert_same(read(made / "asked"), wanted.to_arrow())


def test_one_id_with_two_contents_is_refused(made):
    assert "row 5 has the id of row 1 and other values" in (made / "conflict.txt").read_text()
    assert not (made / "no").exists()


def test_a_stream_that_was_interrupted_says_what_one_engine_says(made, streamed):
    from deltalake import DeltaTable

    assert "the disk is away" in (made / "fails.txt").read_text()
    assert "the machine is away" in (made / "ends.txt").read_text()
    plan = compile_plan([(project.streamed, project.payments)])
    service = plan.services["streamed"]
    with store_in(made) as (store, ids):
        engine = engine_of(plan, store, ids, FeatureState(plan))
        for payments, logins in zip(streamed["payments"], streamed["logins"], strict=True):
            inputs = [("payments", payments), ("logins", logins)]
            engine.process([(n, engine.decode(n, records(t))) for n, t in inputs], by_time=True).wait()
        engine.close()
        logged = features_from_log(store, plan, service)
    wanted = part_table(logged, plan.sources["payments"], service).sort_by("id")
    table = DeltaTable(made / "vectors")
    assert table.transaction_version("penstock-spark") == FILES - 1
    found = pa.table(table.to_pyarrow_dataset().to_table()).sort_by("id")
    assert_same(found, wanted.select(["id", *(o.name.replace(".", "__") for o in service.outputs)]))
    assert sorted(found["_lateness"].to_pylist()) == sorted(logged.features.lateness.tolist())


def records(table):
    import pyarrow.compute as pc

    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(i, field.name, pc.cast(table[field.name], pa.int64()))
    return table.to_pylist()
