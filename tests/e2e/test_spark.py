"""Spark beside the embedded engine: the same definitions, the same rows, 0 differing bits. One Spark for all tests."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow import parquet

from penstock.engine.feature_stream import part_table
from penstock.engine.features import FeatureState
from penstock.engine.history import features_from_log
from penstock.engine.training_set import features_for_frame
from penstock.plan.compile import compile_plan
from tests.e2e.made_once import made_once
from tests.e2e.spark import definitions as project
from tests.e2e.spark import rows
from tests.external_environments import environment_python
from tests.laws.parity import engine_of, store_in

pytestmark = pytest.mark.early


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder in which Spark's work lies."""
    base = tmp_path_factory.getbasetemp()
    return made_once(base, "spark", "tests.e2e.spark.make", environment_python("spark"))


@pytest.fixture(scope="module")
def tables():
    return rows.tables()


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


def test_a_backfill_of_events_some_of_which_are_in_the_history(made, tables):
    wanted = features_for_frame(project.everything.features, rows.asked(), history=tables)
    assert_same(read(made / "asked"), wanted.to_arrow())


def test_one_id_with_two_contents_is_refused(made):
    assert "row 5 has the id of row 1 and other values" in (made / "conflict.txt").read_text()
    assert not (made / "no").exists()


def test_a_stream_that_was_interrupted_says_what_one_engine_says(made, tmp_path):
    from deltalake import DeltaTable

    assert "the disk is away" in (made / "fails.txt").read_text()
    assert "the machine is away" in (made / "ends.txt").read_text()
    plan = compile_plan([(project.streamed, project.payments)])
    service = plan.services["streamed"]
    streamed = rows.streamed()
    with store_in(tmp_path) as (store, ids):
        engine = engine_of(plan, store, ids, FeatureState(plan))
        for payments, logins in zip(streamed["payments"], streamed["logins"], strict=True):
            inputs = [("payments", payments), ("logins", logins)]
            engine.process([(n, engine.decode(n, records(t))) for n, t in inputs], by_time=True).wait()
        engine.close()
        logged = features_from_log(store, plan, service)
    wanted = part_table(logged, plan.sources["payments"], service).sort_by("id")
    table = DeltaTable(made / "vectors")
    assert table.transaction_version("penstock-spark") == rows.FILES - 1
    found = pa.table(table.to_pyarrow_dataset().to_table()).sort_by("id")
    assert_same(found, wanted.select(["id", *(o.name.replace(".", "__") for o in service.outputs)]))
    assert sorted(found["_lateness"].to_pylist()) == sorted(logged.features.lateness.tolist())


def records(table):
    import pyarrow.compute as pc

    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(i, field.name, pc.cast(table[field.name], pa.int64()))
    return table.to_pylist()
