"""Features over HTTP are those of `Runtime.ingest` and of the oracle, bit for bit, on generated streams in any batches."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings

import penstock
from penstock.app.runtime import Runtime
from penstock.definitions.project import Project
from penstock.testing.clock import ManualClock
from penstock.testing.serving import serving_project
from penstock.testing.streams import START_US
from tests.laws.parity import answers_of, assert_same_vectors, bits, endpoint_of
from tests.laws.test_engine_parity import LAWS, batched, chargebacks, logins, numbers, payments

TOML = "[engine]\ndurability = 'process'\nfuture_check = false\n"
ENDPOINT = endpoint_of(numbers, payments, chargebacks)


def project_in(folder):
    """The project of the other parity laws."""
    (folder / "penstock.toml").write_text(TOML)
    return Project(
        folder,
        "parity",
        {},
        sources={one.name: one for one in (payments, logins)},
        label_sources={chargebacks.name: chargebacks},
        services={numbers.name: numbers},
        models={model.name: model for model in ENDPOINT.models},
        endpoints={ENDPOINT.name: ENDPOINT},
    )


def over_http(folder, batches):
    """The features of each new event, in the order in which they were sent."""
    rows = []
    with (
        serving_project(folder, project=project_in(folder), clock=ManualClock(START_US)) as served,
        penstock.Client(served.url, timeout=60) as client,
    ):
        for batch in batches:
            for source, records in by_source(batch).items():
                answers = client.ingest(source, records, features=True)
                rows += [one["features"] for one in answers if one["status"] == "scored"]
    return rows


def in_process(folder, batches):
    with Runtime.open(folder, project=project_in(folder), clock=ManualClock(START_US)) as runtime:
        rows = []
        for batch in batches:
            for source, records in by_source(batch).items():
                answers = runtime.ingest(source, records, with_features=True)
                rows += [one.features for one in answers if one.status == "scored"]
        return rows


def by_source(batch):
    found = {}
    for step in batch:
        found.setdefault(step.source, []).append(step.record)
    return found


def vectors(rows):
    return [[math.nan if value is None else value for value in row.values()] for row in rows]


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(batched())
def test_http_equals_ingest_and_the_oracle(batches):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        found, direct = over_http(Path(one), batches), in_process(Path(other), batches)
    assert [list(row) for row in found] == [list(row) for row in direct]
    for row, same in zip(vectors(found), vectors(direct), strict=True):
        assert [bits(float(value)) for value in row] == [bits(float(value)) for value in same]
    assert_same_vectors(vectors(found), answers_of(LAWS.oracle(), batches, numbers))


def test_numbers_survive_json_bit_for_bit():
    for number in (0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, 2.0**60 + 256):
        assert bits(json.loads(json.dumps(number))) == bits(number)
