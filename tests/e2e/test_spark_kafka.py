"""Spark behind a real Kafka: what it reads from two partitions, one engine reads merged by event time."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import accumulate
from pathlib import Path
from random import Random
from uuid import uuid4

import pyarrow as pa
import pytest
from pyarrow import parquet

from penstock.engine.feature_stream import part_table
from penstock.engine.features import FeatureState
from penstock.engine.history import features_from_log
from penstock.plan.compile import compile_plan
from penstock.testing import streams
from services import maven
from tests.e2e.spark import definitions as project
from tests.external_environments import environment_python
from tests.laws.parity import engine_of, store_in
from tests.laws.test_engine_parity import WINDOWS_US

admin = pytest.importorskip("confluent_kafka.admin")
ROOT = Path(__file__).parents[2]
PARTITIONS = 2


@pytest.fixture(scope="module")
def records():
    steps = streams.events(Random(5), 200, source=project.payments, windows_us=WINDOWS_US)
    return [finite(step.record) for step in steps if not step.is_duplicate]


def finite(record):
    return {k: None if isinstance(v, float) and v - v != 0 else v for k, v in record.items()}


def partition_of(record):
    return sum(map(ord, str(record["card_id"]))) % PARTITIONS


@pytest.fixture(scope="module")
def made(tmp_path_factory, kafka, records):
    python = environment_python("spark")
    folder = tmp_path_factory.mktemp("kafka")
    client = admin.AdminClient({"bootstrap.servers": kafka.address})
    topic = f"payments-{uuid4().hex[:8]}"
    client.create_topics([admin.NewTopic(topic, PARTITIONS)])[topic].result(20)
    messages = [(partition_of(one), json.dumps(one)) for one in records]
    messages[50:50] = [(0, '{"id": "no time"}'), (1, "no JSON")]
    (folder / "messages.json").write_text(json.dumps(messages))
    jars = ",".join(map(str, maven.libraries("spark").glob("*.jar")))
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "SPARK_LOCAL_IP": "127.0.0.1"}
    options = (
        "--conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2 --conf spark.driver.memory=1g"
    )
    env["PYSPARK_SUBMIT_ARGS"] = f"--master local[2] --jars {jars} {options} pyspark-shell"
    work = subprocess.run(
        [python, str(ROOT / "tests/e2e/spark/kafka_work.py"), str(folder), kafka.address, topic],
        env=env,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    client.delete_topics([topic])
    assert work.returncode == 0, work.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def wanted(records, tmp_path_factory):
    """What one engine says of the partitions, merged by event time, each in its own order."""
    placed = []
    for number in range(PARTITIONS):
        own = [one for one in records if partition_of(one) == number]
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
    assert sorted(one["original"] for one in letters) == [b"no JSON", b'{"id": "no time"}']
    assert all(one["reason"] for one in letters)
