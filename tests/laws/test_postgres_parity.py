"""The engine over PostgreSQL against the oracle: the laws of tests/laws/test_engine_parity.py, bit for bit."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.laws.engine_laws import ones
from tests.laws.parity import stores_from
from tests.laws.test_engine_parity import LAWS, batched

FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # the store is emptied for each example


@pytest.fixture
def in_postgres(postgres_home):
    with stores_from(lambda _folder: postgres_home.emptied()):
        yield


@pytest.mark.usefixtures("in_postgres")
@FEW
@given(batched())
def test_live_in_any_batches_equals_the_oracle(batches):
    LAWS.live(batches, ones(batches))


@pytest.mark.usefixtures("in_postgres")
@FEW
@given(batched())
def test_replay_equals_the_oracle(batches):
    LAWS.replayed(batches)


@pytest.mark.usefixtures("in_postgres")
@FEW
@given(batched(), st.integers(0, 8))
def test_going_on_from_a_snapshot_equals_the_oracle(batches, stop):
    LAWS.resumed(batches, stop)
