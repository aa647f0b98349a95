"""A plan that is cut by key says what one machine says, bit for bit, wherever the keys are and however the rows are batched."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engine.feature_stream import part_table
from penstock.engine.features import FeatureState
from penstock.engine.history import features_from_log
from penstock.engine.kernel_rows import Rows
from penstock.engine.replay import read_chunks
from penstock.engine.shards import shard_plan
from tests.laws import test_engine_parity as engine
from tests.laws import test_fold_parity as folds
from tests.laws import test_profile_parity as profiles
from tests.laws.parity import engine_of, run_live, store_in
from tests.laws.shard_laws import sharded_features


def check(plan, service, batches, *, parts, batch_rows):
    with tempfile.TemporaryDirectory() as folder, store_in(Path(folder)) as (store, ids):
        one = engine_of(plan, store, ids, FeatureState(plan))
        run_live(one, batches)
        one.close()
        (chunk,) = read_chunks(store, plan, start=0, stop=store.next_position, chunk_rows=1 << 20)
        if service.source not in chunk.rows:
            return
        logged = features_from_log(store, plan, service)
    wanted = part_table(logged, plan.sources[service.source], service)
    rows = {name: Rows(r.columns, r.positions) for name, r in chunk.rows.items()}
    found = sharded_features(shard_plan(plan, [service]), rows, parts=parts, batch_rows=batch_rows)
    assert found["_lateness"].to_pylist() == logged.features.lateness.tolist()
    assert found["_degraded"].to_pylist() == logged.features.degraded.tolist()
    for name in wanted.column_names:
        assert repr(found[name].to_pylist()) == repr(wanted[name].to_pylist()), name


@settings(max_examples=60, deadline=None)
@given(engine.batched(), st.integers(1, 5), st.integers(1, 9))
def test_streams_and_labels(batches, parts, batch_rows):
    plan = engine.PLAN
    check(plan, plan.services["everything"], batches, parts=parts, batch_rows=batch_rows)


@settings(max_examples=40, deadline=None)
@given(profiles.batched(), st.integers(1, 5), st.integers(1, 9))
def test_profiles(batches, parts, batch_rows):
    plan = profiles.PLAN
    check(plan, plan.services["everything"], batches, parts=parts, batch_rows=batch_rows)


@settings(max_examples=30, deadline=None)
@given(folds.batched(), st.integers(1, 5), st.integers(1, 9))
def test_aggregations_beside_the_kernel(batches, parts, batch_rows):
    plan = folds.PLAN
    check(plan, plan.services["everything"], batches, parts=parts, batch_rows=batch_rows)
