"""Spark behind a real Kafka: what it reads from two partitions, one engine reads merged by event time."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import numpy as np
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
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory, kafka):
    """The folder in which Spark's work lies."""
    base, python = tmp_path_factory.getbasetemp(), environment_python("spark")
    return made_once(base, "spark_kafka", "tests.e2e.spark.make_kafka", python, kafka.address)


def merged(part):
    """Events of the two partitions, merged by event time, each in its own order."""
    placed = []
    for number in range(PARTITIONS):
        own = [one for one in part if partition_of(one) == number]
        so_far = accumulate((one["time"] for one in own), max)
        placed += [(time, number, i, one) for i, (time, one) in enumerate(zip(so_far, own, strict=True))]
    return [one for *_, one in sorted(placed, key=lambda row: row[:3])]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """What one engine says, as the log has it."""
    plan = compile_plan([(project.paid, project.payments)])
    with store_in(tmp_path_factory.mktemp("engine")) as (store, ids):
        engine = engine_of(plan, store, ids, FeatureState(plan))
        for part in records():
            engine.process([("payments", engine.decode("payments", merged(part)))]).wait()
        engine.close()
        return plan, features_from_log(store, plan, plan.services["paid"])


@pytest.fixture(scope="module")
def wanted(logged):
    """What one engine says."""
    plan, found = logged
    return part_table(found, plan.sources["payments"], plan.services["paid"])


def told(folder, isolation="read_committed"):
    return json.loads((folder / f"{isolation}.json").read_text())


def test_two_partitions_into_a_delta_table(made, wanted):
    from deltalake import DeltaTable

    found = pa.table(DeltaTable(made / "vectors").to_pyarrow_dataset().to_table()).sort_by("id")
    wanted = wanted.sort_by("id")
    for name in wanted.column_names:
        assert repr(found[name].to_pylist()) == repr(wanted[name].to_pylist()), name


def test_a_topic_has_each_vector_once_whatever_was_killed(made, wanted):
    keys = [key for key, *_ in told(made)]
    assert sorted(keys) == sorted(wanted["id"].to_pylist())
    assert {headers["micro_batch"] for _, headers, _ in told(made)} == {"0", "1"}
    of_dead = len(told(made, "read_uncommitted")) - len(keys)
    place = [key for key, headers, _ in told(made) if headers == {"micro_batch": "1", "place": "1"}]
    assert of_dead == len(place) // 2 > 0


def plain(value):
    """A text or list as JSON has it."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return (value - EPOCH) / timedelta(microseconds=1)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def test_a_topic_says_what_one_engine_decides_on(made, logged, wanted):
    plan, found = logged
    service = plan.services["paid"]
    messages = {key: message for key, _, message in told(made)}
    matrix = np.where(np.isfinite(found.features.values), found.features.values, np.nan)
    flags = zip(found.features.lateness.tolist(), found.features.degraded.tolist(), strict=True)
    for row, (identity, (late, degraded)) in enumerate(zip(wanted["id"].to_pylist(), flags, strict=True)):
        message = messages[identity]
        assert message["event_id"] == identity
        assert message["service"] == service.fingerprint
        assert list(message["features"]) == list(service.feature_names)
        assert message["flags"] == [[], ["late"], ["too_late"]][late] + ["degraded"] * degraded
        for at, output in enumerate(service.outputs):
            said, value = message["features"][output.name], matrix[row, at]
            if output.dtype.kind in {"text", "array"}:
                assert said == plain(wanted[output.name.replace(".", "__")][row].as_py()), output.name
            else:
                assert repr(said) == repr(None if np.isnan(value) else float(value)), output.name
    times = {one["event_id"]: one["time"] for one in messages.values()}
    assert times == {row["id"]: row["time"].isoformat() for row in wanted.select(["id", "time"]).to_pylist()}


def test_what_breaks_the_contract_is_a_dead_letter(made):
    folder = made / "checkpoint" / "dead_letters"
    (letters,) = [parquet.read_table(one).to_pylist() for one in folder.iterdir()]
    assert sorted(one["original"] for one in letters) == [NO_JSON.encode(), NO_TIME.encode()]
    assert all(one["reason"] for one in letters)
