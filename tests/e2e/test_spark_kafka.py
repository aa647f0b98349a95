"""Spark behind a real Kafka: what it reads from two partitions, one engine reads merged by event time."""

from __future__ import annotations

from itertools import accumulate

import pyarrow as pa
import pytest
from pyarrow import parquet

from penstock.engine.feature_stream import part_table
from penstock.engine.features import FeatureState
from penstock.engine.history import features_from_log
from penstock.plan.compile import compile_plan
from tests.e2e.made_once import made_once
from tests.e2e.spark import definitions as project
from tests.external_environments import environment_python
from tests.laws.parity import engine_of, store_in

pytest.importorskip("confluent_kafka")
from tests.e2e.spark.make_kafka import NO_JSON, NO_TIME, PARTITIONS, partition_of, records

pytestmark = pytest.mark.early


@pytest.fixture(scope="module")
def made(tmp_path_factory, kafka):
    """The folder in which Spark's work lies."""
    base, python = tmp_path_factory.getbasetemp(), environment_python("spark")
    return made_once(base, "spark_kafka", "tests.e2e.spark.make_kafka", python, kafka.address)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """What one engine says of the partitions, merged by event time, each in its own order."""
    placed = []
    for number in range(PARTITIONS):
        own = [one for one in records() if partition_of(one) == number]
        so_far = accumulate((one["time"] for one in own), max)
        placed += [(time, number, i, one) for i, (time, one) in enumerate(zip(so_far, own, strict=True))]
    merged = [one for *_, one in sorted(placed, key=lambda row: row[:3])]
    plan = compile_plan([(project.paid, project.payments)])
    with store_in(tmp_path_factory.mktemp("engine")) as (store, ids):
        engine = engine_of(plan, store, ids, FeatureState(plan))
        engine.process([("payments", engine.decode("payments", merged))]).wait()
        engine.close()
        logged = features_from_log(store, plan, plan.services["paid"])
    return part_table(logged, plan.sources["payments"], plan.services["paid"]).sort_by("id")


def test_two_partitions_into_a_delta_table(made, wanted):
    from deltalake import DeltaTable

    found = pa.table(DeltaTable(made / "vectors").to_pyarrow_dataset().to_table()).sort_by("id")
    for name in wanted.column_names:
        assert repr(found[name].to_pylist()) == repr(wanted[name].to_pylist()), name


def test_what_breaks_the_contract_is_a_dead_letter(made):
    folder = made / "checkpoint" / "dead_letters"
    (letters,) = [parquet.read_table(one).to_pylist() for one in folder.iterdir()]
    assert sorted(one["original"] for one in letters) == [NO_JSON.encode(), NO_TIME.encode()]
    assert all(one["reason"] for one in letters)
